"""Test lines out of what models write."""

import ast
import math
import operator
from typing import Any

import pytest
from codecascade.texts import prompts
from codecascade.texts.prompts import STYLES
from codecascade.texts.test_lines import extract_test_lines as asserts_of
from codecascade.types import Task
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.backend.model_texts import ADD, HOSTILE, MODEL_TEXT


def numbered(completion: str, limit: int = 9, style: str = "chatml", *, task: Task = ADD, **options: Any) -> dict[int, str]:
    prompt = prompts.tests_prompt(style, task, limit)
    found = asserts_of(task, prompt, completion, limit, **{"cut": False, **options})
    return {number: line.source for number, line in found.items()}


def lines(completion: str, limit: int = 9, style: str = "chatml", **options: Any) -> list[str]:
    return list(numbered(completion, limit, style, **options).values())


def below(style: str, text: str) -> str:
    """A sample whose first line is a whole assert and whose others are `text`."""
    return {"base": "add(1, 2) == 3", "alpaca": "(1, 2) == 3", "chatml": "(1, 2) == 3"}[style] + "\n" + text


def test_single_line_asserts_are_kept_up_to_the_limit() -> None:
    completion = "(1, 2) == 3\nassert add(0, 0) == 0\nassert add(1, 1) == 2\n"
    assert lines(completion, limit=2) == ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]


def test_lines_are_counted_whether_kept_or_not() -> None:
    completion = "(1, 2) == 3\n\nassert x == 3\nassert add(1, 1) == 2"
    assert numbered(completion) == {1: "assert add(1, 2) == 3", 4: "assert add(1, 1) == 2"}
    assert lines(completion, limit=3) == ["assert add(1, 2) == 3"]


def test_duplicates_are_kept() -> None:
    assert lines("(1, 2) == 3\nassert add(1, 2) == 3") == ["assert add(1, 2) == 3"] * 2


@pytest.mark.parametrize(
    "dropped",
    [
        "assert add(1,",
        "assert add(1, 2) == (",
        "assert True",
        "assert adder(1, 2) == 3",
        "assert 'add(1, 2)' == 3",
        "assert candidate(1, 2) == 3",
        "assert add(1, 2) == 3; import os",
        "if add(1, 2): pass",
        "print(add(1, 2))",
        "    assert add(x, 2) == 3",
        "assert add(1, xs) == 3",
        "assert all(add(x, 1) == x + 1 for x in xs)",
        "assert add(np.int64(1), 2) == 3",
        "assert add(0.1, 0.2) == pytest.approx(0.3)",
        "assert add(1, 2) == isclose(3)",
        "assert add(1, string) == 3",
        "self.assertRaises(TypeError, add, 1)",
        "self.assertEqual(add(1, 2))",
        "self.assertEqual(*add(1, 2))",
        "self.assertEqual(3, 3)",
        "self.assertEqual(self.add(1, 2), 3)",
        "for x in [1]:\n    assert add(1, x) == 2",
        "if add(1, 2) == 3:\n    assert add(2, 1) == 3",
        "with pytest.raises(TypeError):\n    assert add(1, '') == 3",
        "while False:\n    assert add(1, 1) == 2",
        "try:\n    add()\nexcept TypeError:\n    assert add(1, 1) == 2",
        "def test_add(a, b):\n    assert add(a, b) == 3",
        "assert add(\n    1,",
        "assert add(1, 'it\\\n\"",
        "x = unknown\nassert add(x, 1) == 2",
        "x = [1]\nx.append(2)\nassert add(x, [3]) == [1, 2, 3]",
        "x = 1\nx += 1\nassert add(x, 1) == 3",
        "x = 1\nfor x in [2]:\n    pass\nassert add(x, 1) == 3",
        "x = 1\ndef test_add(x):\n    assert add(x, 1) == 2",
        "x = 1\ndel x\nassert add(x, 1) == 2",
        "if y:\n    x = 2\nassert add(x, 1) == 3",
        "x, y = add(1, 2)\nassert add(x, y) == 3",
        "x = 1\ndef test_add():\n    x = 2\nassert add(x, 1) == 2",
        "def test_add():\n    x = 2\ndef test_more():\n    assert add(x, 1) == 3",
        "import numpy as np\nassert add(np.int64(1), 2) == 3",
        "# assert add(1, 2) == 3",
        "assertion = add(1, 2)",
        "The line `assert add(1, 2) == 4` fails.",
        "assert add(1, 2) == " + "1" * 3000,
        "assert add(" + "(" * 500,
        "assert add",
        "assert add, 'no call'",
        "assert add is not None",
    ],
)
@pytest.mark.parametrize("style", STYLES)
def test_what_is_not_one_assert_about_the_entry_point_is_dropped(dropped: str, style: str) -> None:
    completion = below(style, f"{dropped}\nassert add(2, 2) == 4")
    assert lines(completion, style=style) == ["assert add(1, 2) == 3", "assert add(2, 2) == 4"]


@pytest.mark.parametrize(
    "kept",
    [
        "assert add(1, 2) == 3  # three",
        'assert add(1, 2) == 3, "wrong"',
        "assert not add(0, 0)",
        "assert (add(1, 2) == 3)",
        "assert math.isclose(add(1, 2), 3)",
        "assert add(1, 2) == 3 and add(2, 2) == 4",
        "assert (lambda x: add(x, x) == 4)(2)",
        r"assert add('\d', '') == '\d'",
        "assert all(add(i, i) == 2 * i for i in range(3))",
    ],
)
def test_other_forms_of_an_assert_are_kept(kept: str) -> None:
    assert lines("(1, 2) == 3\n" + kept) == ["assert add(1, 2) == 3", kept]


@pytest.mark.parametrize("style", ["base", "alpaca", "chatml"])
def test_the_primed_beginning_belongs_to_the_first_assert(style: str) -> None:
    completion = "add(1, 2) == 3" if style == "base" else "(1, 2) == 3"
    assert lines(completion, style=style) == ["assert add(1, 2) == 3"]


def test_asserts_are_found_in_chatter_fences_and_any_line_ends() -> None:
    completion = "(1, 2) == 3\r\nThen:\r\n```python\r\nassert add(2, 2) == 4\r\n```\r\nThese are tests."
    assert lines(completion) == ["assert add(1, 2) == 3", "assert add(2, 2) == 4"]


ASSERTS = {  # what a model writes → what is run
    "assert add(\n    [1,\n     2],  # two\n    [3],\n) == [1, 2, 3]": "assert add([1, 2], [3]) == [1, 2, 3]",
    "assert (add(1, 2)\n        == 3), 'wrong'": "assert add(1, 2) == 3",
    "assert add(1, 2) \\\n    == 3": "assert add(1, 2) == 3",
    'assert add("""a\nb""", "") == "a\\nb"': "assert add('a\\nb', '') == 'a\\nb'",
    "def test_add():\n    assert add(2, 2) == 4": "assert add(2, 2) == 4",
    'def test_add() -> None:\n    """Adds."""\n    assert add(2,\n               2) == 4': "assert add(2, 2) == 4",
    "def test_add(): assert add(2, 2) == 4": "assert add(2, 2) == 4",
    "async def test_add():\n\tassert add(2, 2) == 4": "assert add(2, 2) == 4",
    "class TestAdd(unittest.TestCase):\n    def test_it(self):\n        assert add(2, 2) == 4": "assert add(2, 2) == 4",
    "if __name__ == '__main__':\n    assert add(2, 2) == 4": "assert add(2, 2) == 4",
    "try:\n    assert add(2, 2) == 4\nexcept AssertionError:\n    print('wrong')": "assert add(2, 2) == 4",
    "for x in [1]:\n    print(add(x, 1))\nassert add(2, 2) == 4": "assert add(2, 2) == 4",
    "1. assert add(2, 2) == 4": "assert add(2, 2) == 4",
    "2) assert add(2, 2) == 4  # four": "assert add(2, 2) == 4  # four",
    "- assert add(2, 2) == 4": "assert add(2, 2) == 4",
    "* `assert add(2, 2) == 4`: four": "assert add(2, 2) == 4",
    "3. **Twos:** `assert add(2, 2) == 4`": "assert add(2, 2) == 4",
    "- Two and two: ``assert add(2, 2) == 4``.": "assert add(2, 2) == 4",
    ">>> assert add(2, 2) == 4": "assert add(2, 2) == 4",
    "  10. assert add(2,\n        2) == 4": "assert add(2, 2) == 4",
    "self.assertEqual(add(2, 2), 4)": "assert add(2, 2) == 4",
    "self.assertEqual(\n    first=add(2, 2),\n    second=4,\n    msg='four',\n)": "assert add(2, 2) == 4",
    "self.assertEquals(add(2, 2), 4, 'four')": "assert add(2, 2) == 4",
    "self.assertNotEqual(add(2, 2), 5)": "assert add(2, 2) != 5",
    "self.assertTrue(add(2, 2) == 4 or False)": "assert add(2, 2) == 4 or False",
    "self.assertFalse(add(0, 0))": "assert not add(0, 0)",
    "self.assertFalse(add(0, 0) or 0)": "assert not (add(0, 0) or 0)",
    "self.assertIs(add(1, 0) == 1, True)": "assert (add(1, 0) == 1) is True",
    "self.assertIsNot(add(1, 0), True)": "assert add(1, 0) is not True",
    "self.assertIsNone(add(1, 2) and None)": "assert (add(1, 2) and None) is None",
    "self.assertIsNotNone(add(1, 1))": "assert add(1, 1) is not None",
    "self.assertIn(add(2, 2), [3, 4])": "assert add(2, 2) in [3, 4]",
    "self.assertNotIn(5, add([1], [2]))": "assert 5 not in add([1], [2])",
    "self.assertIsInstance(add(2, 2), int)": "assert isinstance(add(2, 2), int)",
    "self.assertGreater(add(2, 2), 3)": "assert add(2, 2) > 3",
    "self.assertListEqual(add([1], [2]), [1, 2])": "assert add([1], [2]) == [1, 2]",
    "self.assertAlmostEqual(add(0.1, 0.2), 0.3)": "assert round(add(0.1, 0.2) - 0.3, 7) == 0",
    "self.assertAlmostEqual(add(0.1, 0.2), 0.3, places=3)": "assert round(add(0.1, 0.2) - 0.3, 3) == 0",
    "self.assertAlmostEqual(add(0.1, 0.2), 0.3, delta=1)": "assert abs(add(0.1, 0.2) - 0.3) <= 1",
    "self.assertNotEqual(add(1, 2) if 1 else 0, lambda x: 4)": "assert (add(1, 2) if 1 else 0) != (lambda x: 4)",
    "result = add(2, 2)\nassert result == 4": "assert add(2, 2) == 4",
    "result: int = add(2, 2)\nprint(result)\nassert result == 4": "assert add(2, 2) == 4",
    "x = 2\nassert add(x, x) == 4": "assert add(2, 2) == 4",
    "x, y = [2], [3]\nassert add(x, y) == [2, 3]": "assert add([2], [3]) == [2, 3]",
    "a = b = -2\nassert add(a, b) == -4": "assert add(-2, -2) == -4",
    "x = [\n    1,\n    2,\n]\ny = x\nassert add(y, [3]) == [1, 2, 3]": "assert add([1, 2], [3]) == [1, 2, 3]",
    "x = [1]\nassert add(x, x) == [1, 1]": "assert (lambda x: add(x, x) == [1, 1])([1])",
    "r = add(1, 2)\nassert 2 < r and r < 4": "assert (lambda r: 2 < r and r < 4)(add(1, 2))",
    "x = [1]\nassert all(add(x, [n]) for n in range(2))": "assert (lambda x: all((add(x, [n]) for n in range(2))))([1])",
    "x = 1\nassert all(add(x, n) for n in range(2))": "assert all((add(1, n) for n in range(2)))",
    "x = 1\nassert [add(x, 0) for x in [2]] == [2]": "assert [add(x, 0) for x in [2]] == [2]",
    "def test_add():\n    x = 2\n    self.assertEqual(add(x, 2), 4)": "assert add(2, 2) == 4",
    "x = 2\ndef test_add():\n    y = x\n    assert add(x, y) == 4": "assert add(2, 2) == 4",
    "def test_more():\n    x = 5\ndef test_add():\n    x = 2\n    assert add(x, 2) == 4": "assert add(2, 2) == 4",
    "tests = [(1, 2)]\nfor a, b in tests:\n    pass\nassert add(2, 2) == 4": "assert add(2, 2) == 4",
    "f = add\nassert f(2, 2) == 4": "assert add(2, 2) == 4",
    "assert cmath.isclose(add(1, 2), 3)": "assert __import__('cmath').isclose(add(1, 2), 3)",
    "assert add(json.loads('1'), math.pi) > 4": "assert add(__import__('json').loads('1'), math.pi) > 4",
    "import json as j\nassert add(j.loads('1'), 2) == 3": "assert add(__import__('json').loads('1'), 2) == 3",
    "import os.path\nassert add(os.path.sep, '') == '/'": "assert add(__import__('os.path').path.sep, '') == '/'",
    "from cmath import isclose as near\nassert near(add(1, 2), 3)": "assert __import__('cmath').isclose(add(1, 2), 3)",
    "from collections.abc import Sized\nassert isinstance(add('', ''), Sized)": (
        "assert isinstance(add('', ''), __import__('collections.abc').abc.Sized)"
    ),
    "assert add(“a”, \u2018b\u2019) == “ab”": 'assert add("a", "b") == "ab"',
    "assert add('“', '') == '“'": "assert add('“', '') == '“'",
    "\ufeffassert\u00a0add(2,\u00a02) ==\u200b 4": "assert add(2, 2) == 4",
    "assert add(“a”,\n    “b”) == “ab”": "assert add('a', 'b') == 'ab'",
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("text", ASSERTS)
def test_asserts_are_read_in_whatever_form_models_write_them(text: str, style: str) -> None:
    completion = below(style, f"{text}\nassert add(3, 3) == 6")
    assert lines(completion, style=style) == ["assert add(1, 2) == 3", ASSERTS[text], "assert add(3, 3) == 6"]


@pytest.mark.parametrize("line", ASSERTS.values())
def test_what_is_read_holds_for_a_right_function(line: str) -> None:
    exec(line, {"math": math, "add": operator.add})


def test_the_first_line_may_begin_with_the_style_s_own_start_and_go_on() -> None:
    assert numbered("(\n    1, 2\n) == 3\nassert add(1, 1) == 2") == {3: "assert add(1, 2) == 3", 4: "assert add(1, 1) == 2"}
    assert numbered("add(\n    1, 2\n) == 3", style="base") == {3: "assert add(1, 2) == 3"}


def test_an_assert_counts_on_the_line_that_ends_it() -> None:
    """A sample that ends after l lines has it only then, live as in a recording that is cut."""
    completion = "(1, 2) == 3\nassert add(\n    2, 2\n) == 4\nassert add(3, 3) == 6"
    whole = numbered(completion)
    assert list(whole) == [1, 4, 5]
    for limit in range(6):
        expected = {number: line for number, line in whole.items() if number <= limit}
        assert numbered(completion, limit) == expected
        assert numbered("\n".join(completion.split("\n")[:limit])) == expected if limit else True


def test_a_line_that_the_token_limit_may_have_cut_sets_nothing() -> None:
    assert numbered("(1, 2) == 3\nassert add(\n    2, 2) == 4", cut=True) == {1: "assert add(1, 2) == 3"}
    assert numbered("(1, 2) == 3\nx = 12\nassert add(x, 1) == 1", cut=True) == {1: "assert add(1, 2) == 3"}


def test_modules_that_the_sandbox_offers_are_provided() -> None:
    line = "(1, 2) == 3\nassert add(np.int64(1), 2) == 3"
    assert lines(line, modules=["numpy"]) == ["assert add(1, 2) == 3", "assert add(__import__('numpy').int64(1), 2) == 3"]
    assert lines("(np, 2) == 3", modules=["numpy"]) == []


def test_asserts_about_another_function_of_that_name_are_dropped() -> None:
    assert lines("(1, 2) == 3\nadd = max\nassert add(1, 2) == 2") == ["assert add(1, 2) == 3"]


@pytest.mark.parametrize(
    "deep", ["f" + "()" * 900, "-" * 1_900 + "1", "1" + "+1" * 900, "x" + ".a" * 900, "[" * 90 + "]" * 90, "lambda:" * 250 + "1"]
)
@pytest.mark.parametrize("form", ["{}", "x = {}", "x: {} = 1", "assert add({}) == 1", "self.assertTrue(add({}))", "print({})"])
def test_deeply_nested_code_gives_only_asserts(form: str, deep: str) -> None:
    found = lines(f"(1, 2) == 3\n{form.format(deep)}\nassert add(x, 1) == 2\nassert add(1, 1) == 2")
    assert (found[0], found[-1]) == ("assert add(1, 2) == 3", "assert add(1, 1) == 2")
    assert all(isinstance(ast.parse(line).body[0], ast.Assert) for line in found)


def test_a_method_is_used_by_its_own_name() -> None:
    task = Task("class Sums:\n    def add(self, a, b):\n", "Sums.add")
    read = lines("(1)\nassert Sums().add(1, 2) == 3\nassert Sums().sub(1, 2) == -1\nassert Sums().add", style="base", task=task)
    assert read == ["assert Sums().add(1, 2) == 3"]


def test_a_property_is_used_where_it_is_compared() -> None:
    task = Task("class Sums:\n    @property\n    def total(self):\n", "Sums.total", expression="Sums().total")
    assert lines(" == 0\nassert Sums().total", style="base", task=task) == ["assert Sums().total == 0"]


def test_a_constructor_is_used_by_its_class() -> None:
    task = Task("class Pair:\n    def __init__(self, a, b):\n", "Pair.__init__", expression="Pair")
    assert lines("(1, 2).a == 1\nassert pair.a == 1", style="chatml", task=task) == ["assert Pair(1, 2).a == 1"]


def test_names_of_the_prompt_are_bound() -> None:
    task = Task("from math import pi\nLIMIT = 3\nclass Point:\n    pass\ndef add(a, b):\n    total = 0\n", "add")
    assert lines("(pi, LIMIT) != Point()", task=task) == ["assert add(pi, LIMIT) != Point()"]
    assert lines("(1, 2) == total", task=task) == []
    anything = Task(f"from helpers import *\n{task.prompt}", "add")
    assert lines("(1, 2) == total", task=anything) == ["assert add(1, 2) == total"]


def test_values_are_not_multiplied_without_end() -> None:
    doubled = "\n".join(["x = [1]", *["x = [x, x]"] * 60, "assert add(x, 1) == 2", "assert add(1, 1) == 2"])
    assert lines("(1, 2) == 3\n" + doubled, limit=100) == ["assert add(1, 2) == 3", "assert add(1, 1) == 2"]


LINES_OF_TESTS = st.lists(
    st.sampled_from([part for text in ASSERTS for part in text.split("\n")]) | st.text(max_size=10), max_size=12
).map("\n".join)


@given(LINES_OF_TESTS, st.integers(0, 12))
def test_a_shorter_sample_gives_the_same_lines_up_to_its_end(completion: str, limit: int) -> None:
    assert numbered(completion, limit) == {n: line for n, line in numbered(completion, 12).items() if n <= limit}


@given(MODEL_TEXT | LINES_OF_TESTS, st.integers(0, 9))
def test_any_text_gives_only_asserts_that_parse(completion: str, limit: int) -> None:
    result = lines(completion, limit)
    assert len(result) <= limit
    for line in result:
        assert "\n" not in line
        assert [type(statement) for statement in ast.parse(line).body] == [ast.Assert]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("style", STYLES)
def test_hostile_text_gives_only_asserts(name: str, style: str) -> None:
    assert all(isinstance(ast.parse(line).body[0], ast.Assert) for line in lines(HOSTILE[name], style=style))
