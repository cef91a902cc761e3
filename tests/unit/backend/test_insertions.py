"""What a completion adds to the caller's prompt, which comes back byte for byte."""

from __future__ import annotations

import ast
import sys

import pytest
from codecascade.texts.programs import candidate
from codecascade.texts.prompts import STYLES, solution_prompt
from codecascade.texts.syntax import clean
from codecascade.types import Candidate, Task
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.backend.model_texts import ADD, MODEL_TEXT

BODY = "    return a + b\n"
WHOLE = "def add(a, b):\n    return a + b\n"
HEADER = "def add(a, b):\n"
DOCUMENTED = HEADER + '    """The sum."""\n'


def read(prompt: str, completion: str, style: str = "chatml", name: str | None = "add", *, cut: bool = False) -> Candidate:
    task = Task(prompt, name)
    return candidate(task, solution_prompt(style, task), completion, cut=cut)


def value(prompt: str, completion: str, style: str = "chatml", call: str = "add(1, 2)", name: str | None = "add") -> object:
    """What the caller's text and the completion's compute together; the program that is tested has to agree."""
    answer = read(prompt, completion, style, name)
    assert answer.problem is None
    results = []
    for text in (clean(prompt + answer.inserted), answer.source):
        names: dict[str, object] = {"__name__": "candidate"}
        exec(compile(text, "<candidate>", "exec", dont_inherit=True), names)
        results.append(eval(call, names))
    assert results[0] == results[1]
    return results[0]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("completion", [BODY, WHOLE, f"```python\n{WHOLE}```\n", "return a + b"])
@pytest.mark.parametrize(
    "prompt",
    [
        DOCUMENTED,
        DOCUMENTED.replace("\n", "\r\n"),
        DOCUMENTED.replace("\n", "\r"),
        "\ufeff" + DOCUMENTED,
        "\0# NUL\0\n" + DOCUMENTED,
        DOCUMENTED + "    ",
        DOCUMENTED.replace("\n", "\r\n") + "    ",
        DOCUMENTED + "\n\n  ",
        HEADER,
        HEADER.rstrip("\n"),
        HEADER.rstrip("\n") + "  ",
        "from __future__ import annotations\n\n\n" + DOCUMENTED,
    ],
)
def test_the_prompt_and_what_is_inserted_are_the_program(prompt: str, completion: str, style: str) -> None:
    assert value(prompt, completion, style) == 3


@given(st.sampled_from(STYLES), MODEL_TEXT, st.sampled_from(["", "    ", "\n  ", "\r\n"]))
def test_prompt_and_insertion_are_the_program_whatever_a_model_writes(style: str, completion: str, end: str) -> None:
    answer = read(ADD.prompt + end, completion, style)
    if answer.problem is None:
        whole = ast.dump(ast.parse(clean(ADD.prompt + end + answer.inserted)))
        assert ast.dump(ast.parse(answer.source)) == whole


@pytest.mark.parametrize("style", STYLES)
def test_a_prompt_with_line_ends_of_windows_goes_on_with_them(style: str) -> None:
    inserted = read(DOCUMENTED.replace("\n", "\r\n"), "    c = a + b\n    return c\n", style).inserted
    assert inserted == "    c = a + b\r\n    return c\r\n"


def test_an_indentation_at_the_prompts_end_is_not_doubled() -> None:
    assert read(DOCUMENTED + "    ", BODY).inserted == "return a + b\n"


def test_a_word_goes_on_behind_the_blank_that_the_prompt_ends_with() -> None:
    assert value("def add(a, b):\n    return ", "a + b\n") == 3


@pytest.mark.parametrize("style", STYLES)
def test_of_a_function_that_is_written_again_the_body_is_inserted(style: str) -> None:
    again = 'def add(a: int, b: int) -> int:\n    """Adds."""\n    # the sum\n    return a + b\n'
    assert read(ADD.prompt, f"```python\n{again}```", style).inserted == "    # the sum\n    return a + b\n"


def test_imports_and_helpers_of_a_function_that_is_written_again_come_below_its_body() -> None:
    again = (
        "import math\nimport functools\nimport os\n\n\ndef plus(a, b):\n    return functools.reduce(int.__add__, (a, b))\n\n\n"
    )
    inserted = read(ADD.prompt, again + "def add(a, b):\n    return plus(a, b)\n").inserted
    assert inserted.startswith("    return plus(a, b)\n\n\nimport functools\n")
    assert "import math" not in inserted  # the prompt has it
    assert "import os" not in inserted  # nothing uses it
    assert value(ADD.prompt, again + "def add(a, b):\n    return plus(a, b)\n") == 3


@pytest.mark.parametrize(
    "again",
    [
        "def add(a, b=5):\n    return a + b\n",
        "def add(x, y):\n    return x + y\n",
        "@staticmethod\ndef add(a, b):\n    return a + b\n",
        "def add(a, b):\n  text = '''\nx'''\n  return a + b\n",
        "def add(a, b):\n    return 0\n\n\ndef add(a, b):\n    return a + b\n",
    ],
)
def test_a_function_that_is_another_comes_below_the_prompts(again: str) -> None:
    answer = read(ADD.prompt, again)
    assert answer.inserted == f"    pass\n\n\n{again}"
    assert value(ADD.prompt, again) == 3


STACK = (
    'class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n        """Add an item."""\n'
)


@pytest.mark.parametrize("name", ["Stack.push", None])
@pytest.mark.parametrize(
    "completion",
    [
        "        self.items.append(item)\n        return self\n",
        "class Stack:\n    def push(self, item):\n        self.grow()\n        self.items.append(item)\n        return self\n\n"
        "    def grow(self):\n        self.size = 1\n",
        "    def push(self, item):\n        self.items.append(item)\n        return self\n",
        "def push(self, item):\n    self.items.append(item)\n    return self\n",
        "def push(self, item, *more):\n    self.items.append(item)\n    return self\n",
    ],
)
@pytest.mark.parametrize("style", STYLES)
def test_a_method_gets_its_body_and_the_class_keeps_its_others(completion: str, name: str | None, style: str) -> None:
    assert value(STACK, completion, style, "Stack().push(7).items", name) == [7]


def test_an_import_from_the_future_is_at_the_top_of_the_program_once() -> None:
    again = "from __future__ import annotations\n\n\ndef add(a: A, b):\n    return a + b\n"
    for prompt in (DOCUMENTED, "from __future__ import annotations\n" + DOCUMENTED):
        source = read(prompt, again).source
        assert source.startswith("from __future__ import annotations\n")
        assert source.count("__future__") == 1
        compile(source, "<candidate>", "exec", dont_inherit=True)


# Prompts that are no program


@pytest.mark.parametrize("style", ["base", "chatml"])
@pytest.mark.parametrize(
    "line",
    [
        "    x = = 1\n",
        "    print 'old'\n",
        '    label = t"{a["b"]}"\n',
        "    try:\n        f()\n    except A, B:\n        pass\n",
    ],
)
def test_no_line_of_a_prompt_is_lost_where_one_cannot_be_read(line: str, style: str) -> None:
    prompt = f"def add(a, b):\n    c = 0\n{line}    d = 1\n"
    task = Task(prompt, None)
    primed = solution_prompt("base", task)  # goes on where the prompt stops
    answer = candidate(task, primed if style == "base" else solution_prompt(style, task), "    return c + d\n")
    assert answer.inserted == "    return c + d\n"
    assert answer.problem is not None
    if style == "base":
        assert answer.source == prompt + answer.inserted


@pytest.mark.parametrize("style", STYLES)
def test_the_problem_of_an_answer_in_a_later_pythons_syntax_is_the_version_it_needs(style: str) -> None:
    completion = 'def add(a, b):\n    label = t"{a}"\n    return a + b\n'
    answer = read(DOCUMENTED, completion, style)
    if sys.version_info < (3, 14):
        assert (answer.problem or "").startswith("needs Python 3.14: line ")
        assert "return a + b" in answer.source
    assert answer.source == DOCUMENTED + answer.inserted


def test_syntax_of_a_later_python_below_a_whole_function_does_not_matter() -> None:
    answer = read(DOCUMENTED, '    return a + b\n\n\ndef show(a):\n    return t"{a}"\n')
    assert answer.source.startswith(DOCUMENTED + "    return a + b\n")
    assert answer.problem is None


def test_an_unfinished_statement_that_nothing_finishes_stays_as_it_is() -> None:
    prompt = "def add(a, b):\n    c = 1\n    return (a +"
    answer = read(prompt, "I cannot say.")
    assert prompt + answer.inserted == answer.source
    assert answer.problem is not None


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("completion", [" b)\n", "```python\nimport os\ndef add(a, b):\n    c = 1\n    return (a + b)\n```\n"])
def test_an_unfinished_statement_goes_on(completion: str, style: str) -> None:
    assert value("def add(a, b):\n    c = 1\n    return (a +", completion, style) == 3


@pytest.mark.parametrize("name", ["add", None])
def test_a_script_that_a_comment_asks_for_below_a_function_is_kept(name: str | None) -> None:
    prompt = "def add(a, b):\n    return a + b\n\n\n# Print the sums of 1 and 0 to 2.\n"
    script = "for i in range(3):\n    print(add(1, i))\n"
    for style in ("base", "chatml"):
        answer = read(prompt, script, style, name)
        assert (answer.inserted, answer.problem) == (script, None)


JAVASCRIPT = "// The sum.\nfunction add(a, b) {\n"


@pytest.mark.parametrize(
    ("completion", "inserted"),
    [
        ("```javascript\n// The sum.\nfunction add(a, b) {\n  return a + b;\n}\n```\nDone.", "  return a + b;\n}\n"),
        ("```js\nconst add = (a, b) => a + b;\n```", "const add = (a, b) => a + b;\n"),
    ],
)
def test_another_language_goes_on_below_the_prompt(completion: str, inserted: str) -> None:
    answer = read(JAVASCRIPT, completion, "alpaca", None)
    assert (answer.inserted, answer.problem is None) == (inserted, False)


def test_another_language_is_continued_by_a_model_that_goes_on() -> None:
    answer = read(JAVASCRIPT, "  return a + b;\n}\n", "base", None)
    assert (answer.source, answer.inserted) == (JAVASCRIPT + "  return a + b;\n}\n", "  return a + b;\n}\n")


# Cut answers


@pytest.mark.parametrize(
    ("completion", "cut"),
    [
        ("    c = a + b\n    return", True),
        ("    c = a + b\n    return c +", True),
        ("", True),
        ("<think>\nThe sum is", True),
        ("```python\ndef add(a, b):\n    return a", True),
        ("```python\ndef add(a, b):\n    return a + b\n```\nThis adds", False),
        ("    return a + b\n\n\ndef other(x):\n    return x", False),
        ("    return a + b\n\n\nprint(add(1,", False),
        ("    return a + b\n\nThis adds the", False),
        ("    return plus(a, b)\n\n\ndef plus(a, b):\n    return (", True),
        ("def plus(a, b):\n    return a + b\n\n\ndef add(a, b):\n    return plus(a, b", True),
        ("def plus(a, b):\n    return a + b\n\n\ndef add(a, b):\n    return plus(a, b)", True),
    ],
)
def test_an_answer_counts_as_cut_where_its_own_code_is(completion: str, cut: bool) -> None:
    assert read(DOCUMENTED, completion, cut=True).cut is cut
    assert not read(DOCUMENTED, completion).cut


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("tag", ["think", "thinking", "reasoning"])
def test_a_thought_that_does_not_end_is_no_answer(tag: str, style: str) -> None:
    assert read(DOCUMENTED, f"<{tag}>\n```python\n{WHOLE}```\n", style).source == DOCUMENTED + "    pass\n"
