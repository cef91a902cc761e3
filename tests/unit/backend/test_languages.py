"""Python, another language, or prose."""

from __future__ import annotations

import pytest
from codecascade.texts.languages import language_of

PYTHON = {
    "parses": "x = 1\n",
    "open": "def f(x):\n    for i in x:\n",
    "a comment": "# add two numbers\n",
    "newer syntax": "def first[T](xs: list[T]) -> T:\n    " + '"""One."""\n' + "class A[T]: pass\ntype X = int\n",
    "Python 2": "def f(x):\n    print 'x'\n    exec x in y\n",
    "a slip": "def f(x):\n    y = = 1\n",
    "an open string": "import os\nfrom a import b\ndef f(x):\n    s = 'x\n    return s +\n",
}
OTHER = {
    "JavaScript": "function add(a, b) {\n  // the sum\n",
    "JavaScript module": 'import { readFile } from "fs";\n\nexport const add = (a, b) => {\n',
    "TypeScript": "class Stack<T> {\n  private items: T[] = [];\n",
    "C": "#include <stdio.h>\n\nint main(void) {\n",
    "Go": "package main\n\nfunc add(a int, b int) int {\n",
    "Rust": "fn add(a: i32, b: i32) -> i32 {\n",
    "Java": "public class Main {\n    public static void main(String[] args) {\n        for (int x : xs) {\n",
    "Ruby": "def add(a, b)\n  # the sum\nend\n\nclass Stack\n",
    "SQL": "SELECT name, count(*)\nFROM users\nWHERE ",
    "shell": 'for f in *.py; do\n  echo "$f"\n',
    "HTML": "<html>\n<body>\n",
    "Haskell": "module Main where\n\nimport Data.List\n\nadd :: Int -> Int -> Int\n",
    "C with a switch": "switch (x) {\n  case 1:\n  default:\n",
}
PROSE = ["Write a function that adds two numbers.", "Sort a list in place:\n", "How do I read a file?"]


@pytest.mark.parametrize("prompt", PYTHON.values(), ids=PYTHON)
def test_python(prompt: str) -> None:
    assert language_of(prompt) == "python"


@pytest.mark.parametrize("prompt", OTHER.values(), ids=OTHER)
def test_another_language(prompt: str) -> None:
    assert language_of(prompt) == "other"


@pytest.mark.parametrize("prompt", PROSE)
def test_prose(prompt: str) -> None:
    assert language_of(prompt) == "prose"
