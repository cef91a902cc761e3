"""The examples that a prompt gives, as test lines."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from codecascade.texts.examples import MAX_EXAMPLES, prompt_examples
from codecascade.types import Task
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.backend.model_texts import HOSTILE


def lines(docstring: str, header: str = "def f(a, b=0):", name: str = "f", raw: str = "") -> list[str]:
    prompt = f'{header}\n    {raw}"""{docstring}"""\n'
    return [line.source for line in prompt_examples(Task(prompt, name))]


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("\n    >>> f(2)\n    4\n    >>> f(3, b=1)\n    [1, 'x']\n    ", ["assert f(2) == 4", "assert f(3, b=1) == [1, 'x']"]),
        ("\n    >>> f('')\n\n    >>> f('a')\n    'a'\n    ", ["assert f('') is None", "assert f('a') == 'a'"]),
        ("\n    >>> f(2) == 4\n    >>> f(3) == 9\n    True\n    ", ["assert f(2) == 4", "assert (f(3) == 9) == True"]),
        ("f(2) == 4", ["assert f(2) == 4"]),
        ("f(2) => 4, f(3) ==> 9", ["assert f(2) == 4", "assert f(3) == 9"]),
        ("f([1, 2]) -> [2, 1]", ["assert f([1, 2]) == [2, 1]"]),
        ("`f(2)` → `4`", ["assert f(2) == 4"]),
        ("f('(', 1) ➞ true", ["assert f('(', 1) == True"]),
        ("f(2) returns 4. f(3) should return 9!", ["assert f(2) == 4", "assert f(3) == 9"]),
        ("f(2)   # returns 'x'", ["assert f(2) == 'x'"]),
        ("f(2) # => 4", ["assert f(2) == 4"]),
        ("f(2): 4", []),
        ("f(2) = 4", ["assert f(2) == 4"]),
        ("f(5, 6) -> 19 - 5 - 6 = 8", ["assert f(5, 6) == 8"]),
        ("f(4) = f(3) + f(2) = 2 + 3 = 5", []),
        ("g(4) = f(3) + f(2) = 5", []),
        ("f(2) == 4 if the moon is full", []),
        ("f(x) == 4 and f(2, [y]) == 5", []),
        ("f(2) == something", []),
        ("self.f(2) == 4, gf(2) == 4", []),
        ("for a = 2 and b = 3 the output should be 5", ["assert f(a=2, b=3) == 5"]),
        ("For a=2, b=3, the result is 5.", ["assert f(a=2, b=3) == 5"]),
        ("for a = 2 the output should be 5", []),
        ("Input: 1, 2\n    Output: 3\nInput: [4], (5,)\n    Output: {}", ["assert f(1, 2) == 3", "assert f([4], (5,)) == {}"]),
        ("Input: a = 1, b = 'x: y'\n    Output: null", ["assert f(a=1, b='x: y') == None"]),
        ("Input: \n        a : [1]\n        b : 2\n    Output: 3", ["assert f(a=[1], b=2) == 3"]),
        ("Input: 1\n    Output: 3", []),
        ("* f(1) => 2\n    * f(2) => 3", ["assert f(1) == 2", "assert f(2) == 3"]),
        ("f(1) == 2. Again: f(1) == 2", ["assert f(1) == 2"]),
        ("f(-1.5e3, +2) == -0.5", ["assert f(-1.5e3, +2) == -0.5"]),
        ("Nothing to see.", []),
    ],
)  # fmt: skip
def test_each_form_becomes_an_assert(docstring: str, expected: list[str]) -> None:
    assert lines(docstring) == expected


def test_examples_in_comments_at_the_margin_count() -> None:
    prompt = "# f(2) -> 4\n# >>> not a doctest\ndef f(a):\n    # f(3) -> 9 is inside\n"
    assert [line.source for line in prompt_examples(Task(prompt, "f"))] == ["assert f(2) == 4"]


def holds(line: str, program: str) -> bool:
    names: dict[str, Any] = {"__name__": "candidate"}
    exec(program, names)
    try:
        exec(line, names)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize(
    ("docstring", "right", "wrong"),
    [
        (
            "\n    >>> f(0)\n    Traceback (most recent call last):\n        ...\n    ZeroDivisionError: division by zero\n    ",
            "return 1 / a",
            "return a",
        ),
        ("\n    >>> f(2)\n    <object ...>\n    ", "return object()", "return 5"),
        ("\n    >>> f(2)\n    <object object at 0x...>\n    ", "return object()", "return dict"),
        ("\n    >>> f('x')\n    x\n    x\n    ", "print(a); print(a)", "print(a)"),
        ("\n    >>> f('x') # doctest: +ELLIPSIS\n    'a...z'\n    ", "return 'abcz'", "return 'abc'"),
        ("\n    >>> box = []\n    >>> f(box)\n    >>> box\n    [1]\n    ", "a.append(1)", "return a"),
        ("\n    >>> for i in range(2):\n    ...     print(f(i))\n    1\n    2\n    ", "return a + 1", "return a"),
        ("\n    >>> f(1)\n    1\n    >>> f(2)\n    two words\n    ", "return a if a == 1 else print('two  words')", "return a"),
    ],
)
def test_what_needs_doctest_is_compared_by_doctest(docstring: str, right: str, wrong: str) -> None:
    header = "def f(a):\n    "
    found = lines(docstring, "def f(a):")
    assert found
    assert all(holds(line, header + right) for line in found)
    assert not all(holds(line, header + wrong) for line in found)


def test_a_doctest_that_does_not_parse_is_left_out() -> None:
    assert lines("\n    >>> f(2\n    4\n    >>> f(3)\n    9\n    ") == ["assert f(3) == 9"]
    assert lines("\n    >>> f('\n')\n    4\n  f(3) -> 9\n    ") == ["assert f(3) == 9"]


@pytest.mark.parametrize(
    "prompt", ["", "Add two numbers.", "def g(a):\n    '''f(2) == 4'''\n", "class f:\n    '''f(2) == 4'''\n"]
)
def test_without_the_function_there_are_no_examples(prompt: str) -> None:
    assert prompt_examples(Task(prompt, "f")) == ()
    assert prompt_examples(Task(prompt)) == ()


def test_many_examples_are_cut() -> None:
    assert len(lines("\n".join(f"f({number}) == 1" for number in range(1_000)))) == MAX_EXAMPLES


TEXT = st.lists(
    st.sampled_from(
        [">>> ", "f(", "f(1)", ")", " == ", "->", "=>", "Input: ", "Output: ", "\n", "1", "'", "[", "for a = ", " is "]
    )
    | st.text(max_size=10),
    max_size=30,
).map("".join)


@given(TEXT)
def test_any_text_gives_only_whole_asserts(text: str) -> None:
    for line in lines(text, raw="r"):
        (statement,) = ast.parse(line).body
        assert isinstance(statement, ast.Assert)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_gives_only_whole_asserts(name: str) -> None:
    for text in (HOSTILE[name], "f(" * 10_000, "Input: " * 5_000, ">>> f(1)\n" * 4_000, "for a = 1 " * 4_000):
        assert all(isinstance(ast.parse(line).body[0], ast.Assert) for line in lines(text[:50_000], raw="r"))


STACK = '''class Stack:
    """Last in, first out.

    >>> s = Stack()
    >>> s.push(1)
    >>> s.pop()
    1
    """

    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)

    def pop(self):
        """Take the last item.

        >>> Stack().pop() is None
        True
        """
'''


def test_a_method_is_held_against_the_doctests_of_its_class_and_its_own() -> None:
    state, own = prompt_examples(Task(STACK, "Stack.pop"))
    right = STACK + "        return self.items.pop() if self.items else None\n"
    assert holds(state.source, right)
    assert holds(own.source, right)
    assert not holds(state.source, STACK + "        return None\n")
    assert not holds(own.source, STACK + "        return 1\n")
    assert prompt_examples(Task(STACK, "Stack")) == prompt_examples(Task(STACK, "Stack.peek")) == ()
