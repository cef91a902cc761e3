"""Parsing of test lines: where possible the candidate gets only the expression, never the expected value."""

from __future__ import annotations

import json
import warnings

import pytest
from codecascade.sandbox.lines import Line, parse_lines
from codecascade.sandbox.outputs import SAME_OUTPUT
from codecascade.sandbox.values import NotAValue, decode
from hypothesis import given
from hypothesis import strategies as st


def parse_line(text: str, blind: bool = True) -> Line:
    return parse_lines([text], blind)[0]


SPLIT = {
    "assert f(2) == [1, 2]": "f(2)",
    "assert [1, 2] == f(2)": "f(2)",
    "assert f(2) != -1, 'message'": "f(2)",
    "assert 0 < f(2) <= 1.5": "f(2)",
    "assert f(2) in ('a', 'b')": "f(2)",
    "assert 'a' not in f(2)": "f(2)",
    "assert f(2) is None": "f(2)",
    "assert f(2) is not True": "f(2)",
    "assert not f(2)": "f(2)",
    "assert not f(2) == 3": "f(2)",
    "assert (f(2) == 3) == True": "f(2)",
    "assert f(2)": "f(2)",
    "assert f(2).x[0] == {'a': {1, 2}}": "f(2).x[0]",
    "assert f(2) == 10**9 + 7": "f(2)",
    "assert f(2) == 1 / 3": "f(2)",
    "assert abs(f(2) - 1.5) < 1e-6": "f(2)",
    "assert abs(1.5 - f(2)) <= 10**-6": "f(2)",
    "assert round(f(2), 2) == 0.33": "f(2)",
    "assert math.isclose(f(2), 1.5, rel_tol=1e-9)": "f(2)",
    "assert __import__('math').isclose(f(2), 1.5)": "f(2)",
    "assert isinstance(f(2), (int, float))": "f(2)",
    "assert sorted(f(2)) == [1, 2]": "sorted(f(2))",
    "assert len(f(2)) == 3": "len(f(2))",
    "assert f(2) == set()": "f(2)",
    "assert (x := f(2)) == 1": "(x := f(2))",
}
WHOLE = [
    "assert f(2) == f(3)",
    "assert f(2) == 1 and f(3) == 2",
    "assert f(2) is 3",
    "assert f(2) == x",
    "assert f(2) == [i for i in range(3)]",
    "assert True",
    "assert f(2) == [" + "1, " * 1000 + "]",
    "assert f(2) == 2 ** 10 ** 9",
    "assert f(2) == 'a' * 10 ** 9",
]
NOT_LINES = [
    "",
    "f(2) == 3",
    "assert",
    "assert f(2) == 3; import os",
    "assert f(2) ==\nassert True",
    "if True:\n    assert f(2)",
    "assert '\0'",
    "assert " + "(" * 500 + ")" * 500,
    "assert f(2) == '" + "x" * 5000 + "'",
]


@pytest.mark.parametrize(("line", "sent"), SPLIT.items())
def test_only_what_the_candidate_computes_is_sent(line: str, sent: str) -> None:
    parsed = parse_line(line)
    assert (parsed.mode, parsed.sent) == ("blind", sent)
    assert parse_line(line, blind=False).sent == line


@pytest.mark.parametrize("wanted", ["3", "'\n\u2028é", "x" * 3_000])
@pytest.mark.parametrize("blind", [True, False])
def test_what_a_program_should_print_is_never_sent(wanted: str, blind: bool) -> None:
    line = parse_line(f"assert __same_output__(f('2\\n'), {wanted!r})", blind)
    assert (line.mode, line.sent) == ("blind", "f('2\\n')")
    assert line.holds(json.dumps(wanted + "\n"))
    assert not line.holds(json.dumps("2"))
    assert not line.holds(json.dumps(3))
    assert not line.holds(None)


@pytest.mark.parametrize(
    "line",
    [
        "assert __same_output__(f(2), wanted)",
        "assert __same_output__(f(2), 3)",
        "assert __same_output__(f(2))",
        "assert __same_output__(f(2), '3', '4')",
        "assert __same_output__(f(2), wanted='3')",
        "assert __same_output__('3', '3')",
    ],
)
def test_a_comparison_of_outputs_in_another_form_is_left_to_the_candidate(line: str) -> None:
    parsed = parse_line(line)
    assert SAME_OUTPUT in parsed.sent


@pytest.mark.parametrize("line", WHOLE)
def test_lines_that_cannot_be_split_are_sent_whole(line: str) -> None:
    assert (parse_line(line).mode, parse_line(line).sent) == ("tick", line)


@pytest.mark.parametrize("line", NOT_LINES)
def test_what_is_not_one_assert_is_not_sent(line: str) -> None:
    assert (parse_line(line).mode, parse_line(line).sent) == ("invalid", "")


@pytest.mark.parametrize(
    ("line", "value", "expected"),
    [
        ("assert f(2) == [1, 2]", ["l", 1, 2], True),
        ("assert f(2) == [1, 2]", ["t", 1, 2], False),
        ("assert f(2) == [1, 2]", ["l", 1.0, True], False),
        ("assert f(2) == [1, 1]", ["l", 1.0, True], True),
        ("assert f(2) == {'a': (1,)}", ["d", "a", ["t", 1]], True),
        ("assert f(2) == {1, 2}", ["s", 2, 1], True),
        ("assert f(2) == b'ab'", ["b", "6162"], True),
        ("assert f(2) == 1 + 2j", ["c", 1.0, 2.0], True),
        ("assert f(2) == 1e999", float("inf"), True),
        ("assert f(2) == 0.5", float("nan"), False),
        ("assert f(2) != 0.5", float("nan"), True),
        ("assert 0 < f(2) < 1", 0.5, True),
        ("assert 0 < f(2) < 1", 1, False),
        ("assert f(2) in [1, 2]", 3, False),
        ("assert 'a' in f(2)", "bab", True),
        ("assert f(2) is None", None, True),
        ("assert f(2) is True", 1, False),
        ("assert not f(2)", ["l"], True),
        ("assert f(2)", "", False),
        ("assert abs(f(2) - 1.5) < 1e-6", 1.5000001, True),
        ("assert abs(f(2) - 1.5) < 1e-6", 1.6, False),
        ("assert round(f(2), 2) == 0.33", 0.3333, True),
        ("assert math.isclose(f(2), 1.5)", 1.5, True),
        ("assert __import__('math').isclose(f(2), 1.5)", 1.6, False),
        ("assert __import__('cmath').isclose(f(2), 1.5)", True, True),
        ("assert isinstance(f(2), int)", 1, True),
        ("assert isinstance(f(2), str)", 1, False),
    ],
)
def test_the_value_decides(line: str, value: object, expected: bool) -> None:
    assert parse_line(line).holds(json.dumps(value)) is expected


@pytest.mark.parametrize(
    ("line", "holds"),
    [
        ("assert f(2) == 3", False),
        ("assert f(2) != 3", False),
        ("assert f(2)", False),
        ("assert not f(2)", False),
        ("assert f(2) is None", False),
        ("assert f(2) is not None", True),
        ("assert isinstance(f(2), int)", False),
    ],
)
def test_a_value_that_cannot_be_shown_is_only_not_none(line: str, holds: bool) -> None:
    assert parse_line(line).holds(None) is holds


@pytest.mark.parametrize(
    "text", ["", "{}", "[", '["x"]', '["b","zz"]', '["s",["l"]]', '["d",1]', '["c",1]', "[" * 500, "[[]]", "[]"]
)
def test_text_that_no_runner_sends_is_not_a_value(text: str) -> None:
    with pytest.raises(NotAValue):
        decode(text)


@pytest.mark.parametrize("line", ["assert " + "-" * 4000 + "1", "assert " + "not " * 1000 + "1", "assert f(1)" + ".a" * 2000])
def test_deep_lines_do_not_hurt_the_parent(line: str) -> None:
    assert parse_line(line).mode in ("tick", "invalid", "blind")


def test_a_comparison_that_makes_no_sense_raises_as_python_does() -> None:
    with pytest.raises(TypeError):
        parse_line("assert f(2) < 3").holds('"text"')


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        ("assert f('é漢')  ==  'é'", "f('é漢')"),
        ("assert (f(2)) == 4", "f(2)"),
        ("assert (y := f(2)) == 4", "(y := f(2))"),
        ("assert f(\n2) == 4", "f(2)"),
    ],
)
def test_the_expression_is_sent_as_it_stands_where_it_can_stand_alone(line: str, sent: str) -> None:
    assert parse_line(line).sent == sent
    compile(sent, "<line>", "eval")


# Parsed as one program with its neighbours, each of these would change how they are read.
ODD = [
    "assert f(1) == (",
    "assert 2)",
    "assert f(1) == [1,",
    "assert f(1) == '''",
    "assert ''' == f(2)",
    'assert f(1) == """a',
    "assert f(1) == \\",
    "assert f(1) == 2 \\",
    "assert f(1) == 2; assert f(2) == 3",
    "assert f(1) == 2;",
    "assert f(1) == 2  # '''",
    "assert f(1) == 2  # \\",
    "assert f(1) == 'a\\d'",
    "assert f(1) == 2\fassert f(2) == 2",
    "assert f(1) == 2\u2028assert f(2) == 2",
    "assert f(1) == 2\rassert f(2) == 2",
    "assert (f(1)\r== 2)",
    "\\\nassert f(1) == 2",
    "# assert\nassert f(1) == 2",
    "\ufeffassert f(1) == 2",
    "assertion = 1",
    "assert(f(1))",
    "assert f(1) == 'é' != f",
    "assert f('é漢') == 'é'",
    "if True: assert f(1)",
    "else: assert f(1)",
    "from __future__ import annotations",
    "@assert_",
    "def f(): pass",
    "assert " + "(" * 190 + ")" * 190,
    "assert f(1) == " + "-" * 300 + "1",
    "assert f(1) == '" + "x" * 3000 + "'",
]
# As many statements as lines, but not one statement on each line.
SHIFTED = [
    ("assert f(1) == '''", "assert ''' == f(2); assert f(3)"),
    ("assert f(1); assert f(2)", "assert f(3) == '''", "assert '''"),
    ("", "assert f(1); assert f(2)"),
    ("assert f(1)", "# assert", "assert f(2); assert f(3)"),
    ("assert f(1)\\", "", "assert f(2); assert f(3)"),
    ("assert f(1)\nassert f(2)", "assert f(3) == '''", "assert '''"),
]
SHOWN = [None, '"a"', "1", "2", '["l",1,2]', '["l"]', '"\\u00e9"', "-1.5", "null", "true"]


def described(line: Line) -> list[object]:
    """A line's mode and expression, and its verdict on some values."""
    return [line.mode, line.sent, *(judged(line, text) for text in SHOWN if line.judge)]


def judged(line: Line, text: str | None) -> object:
    try:
        return line.holds(text)
    except (TypeError, ValueError, ArithmeticError) as error:
        return type(error)


@pytest.mark.parametrize("blind", [True, False])
@given(texts=st.lists(st.sampled_from([*ODD, *SPLIT, *WHOLE, *NOT_LINES]), max_size=24))
def test_a_line_is_the_same_among_others_as_alone(blind: bool, texts: list[str]) -> None:
    assert [described(line) for line in parse_lines(texts, blind)] == [described(parse_line(text, blind)) for text in texts]


@pytest.mark.parametrize("texts", SHIFTED)
def test_lines_are_not_taken_for_each_other(texts: tuple[str, ...]) -> None:
    assert [described(line) for line in parse_lines(texts)] == [described(parse_line(text)) for text in texts]


@given(texts=st.lists(st.text("(['\"\\;#,f=1 ", max_size=8).map("assert f(1) == {}".format), min_size=2, max_size=6))
def test_no_text_changes_what_its_neighbours_are(texts: list[str]) -> None:
    assert [described(line) for line in parse_lines(texts)] == [described(parse_line(text)) for text in texts]


def test_equal_lines_are_one() -> None:
    first, other, again = parse_lines(["assert f(1) == 2", "assert f(2) == 2", "assert f(1) == 2"])
    assert first is again
    assert first is not other


@pytest.mark.parametrize("texts", [["assert f(1) == '\\d'", "assert f(2) == 2"], ["assert f(1) == '\\d'\n"]])
def test_doubtful_escapes_are_no_warning(texts: list[str]) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert parse_lines(texts)[0].mode == "blind"
    assert seen == []
