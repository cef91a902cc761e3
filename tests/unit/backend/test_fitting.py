import pytest
from codecascade.texts.fitting import (
    Place,
    binds_too_little,
    does_not_parse,
    doubt,
    leaves_brackets_open,
    leaves_unreachable,
    misfit,
)
from codecascade.texts.fitting import repeats_suffix as repeats
from codecascade.types import Task


def place(before: str, after: str, language: str = "python") -> Place:
    return Place.of(Task(before, suffix=after, infill=True, language=language))


BODY = place("def f(n):\n    ", "\n    return total\n")


@pytest.mark.parametrize(
    ("task", "python"),
    [
        (Task("x", language="Python"), True),
        (Task("def f():\n    ", language="typescript"), False),
        (Task("def f():\n    "), True),
        (Task("function f() {\n  "), False),
        (Task("", suffix="\ndef f():\n    return 1\n"), True),
    ],
)
def test_the_language_is_the_callers_or_what_the_text_looks_like(task: Task, python: bool) -> None:
    assert Place.of(task).python is python


@pytest.mark.parametrize(
    ("before", "middle", "after", "reason"),
    [
        ("def f(n):\n    ", "total = n", "\n    return total\n", None),
        ("def f(n):\n    ", "total = (n", "\n    return total\n", "it does not parse: '(' was never closed"),
        (
            "def f(n):\n    ",
            "if n:",
            "\n    return total\n",
            "it does not parse: expected an indented block after 'if' statement on line 2",
        ),
        ("def f(n):\n    ", "else:", "\n    return n\n", "it does not parse: invalid syntax"),
    ],
)
def test_an_infill_of_python_has_to_parse(before: str, middle: str, after: str, reason: str | None) -> None:
    assert does_not_parse(place(before, after), middle) == reason


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("        y = 1\n    x = ", "\n    return x\n"),  # begins within a block
        ("x = ", "\n\ndef g(a):\n    return max(a,\n"),  # ends within brackets
        ("x = ", "\n\ndef g(a):\n"),  # ends at a header
        ("x = ", "\ny = 2\n\nclass class:\n    pass\n"),  # wrong far below
    ],
)
def test_what_is_wrong_elsewhere_is_the_callers(before: str, after: str) -> None:
    assert does_not_parse(place(before, after), "1") is None
    assert does_not_parse(place(before, after), "1 +") is not None


def test_a_suffix_that_ends_within_a_text_hides_what_is_wrong() -> None:
    assert does_not_parse(place("x = ", '\n\ny = """\n'), "1") is None


def test_the_suffix_is_not_to_be_repeated() -> None:
    assert repeats(BODY, "total = n\n    return total")
    assert not repeats(BODY, "total = n")
    assert misfit(BODY, "total = n\n    return total") == "it ends with what follows it"


@pytest.mark.parametrize(
    ("middle", "opens"),
    [
        ("return g(1);", False),
        ("return g(1", True),
        ("return g(1));", True),
        ('return ")";', False),
        ("if (a) {", True),
        ("if (a) {\n  }", False),
    ],
)
def test_brackets_match_in_every_language(middle: str, opens: bool) -> None:
    function = place("function f(a) {\n  ", "\n}\n", "javascript")
    assert (leaves_brackets_open(function, middle) is not None) is opens
    assert misfit(function, middle) == ("its brackets do not match those around it" if opens else None)


def test_a_suffix_that_ends_early_leaves_brackets_open_itself() -> None:
    assert leaves_brackets_open(place("class A { void f() { ", "\n g();\n", "java"), "h();") is None


@pytest.mark.parametrize(
    ("before", "middle", "after", "unreachable"),
    [
        ("def f(n):\n    ", "return n", "\n    n += 1\n", True),
        ("def f(n):\n    if n:\n        ", "return n", "\n    n += 1\n", False),
        ("def f(n):\n    ", "while n:\n        break", "\n    n += 1\n", False),
        ("def f(n):\n    ", "raise ValueError", "\n\n    # why\n    n += 1\n", True),
        ("def f(n):\n    ", "returned = 1", "\n    n += 1\n", False),
        ("def f(n):\n    ret", "urn n", "\n    n += 1\n", True),
        ("def f(n):\n    ", "return n", "\n", False),
        ("def f(n):\n    return ", "n", " + 1\n    n += 1\n", False),
    ],
)
def test_an_infill_does_not_cut_off_what_follows(before: str, middle: str, after: str, unreachable: bool) -> None:
    assert leaves_unreachable(place(before, after), middle) is unreachable


@pytest.mark.parametrize(
    ("before", "middle", "after", "names"),
    [
        ("def f(n):\n    ", "total = n", "\n    return total\n", ()),
        ("def f(n):\n    ", "count = n", "\n    return total\n", ("total",)),
        ("def f(n):\n    ", "total = fib(n)", "\n    return total\n", ("fib",)),
        ("def f(n):\n    y = np.sum(n)\n    ", "total = np.max(n)", "\n    return total\n", ()),  # the caller's own
        ("def f(n):\n    ", "total = n", "\n    return helper(total)\n", ()),  # may be defined below what is sent
        ("def f(n):\n    ", "total = n", "\n    return total\n\nprint(other)\n", ()),  # below the hole's block
        ("from m import *\ndef f(n):\n    ", "total = fib(n)", "\n    return total\n", ()),
    ],
)
def test_an_infill_binds_what_it_and_the_rest_of_its_block_read(
    before: str, middle: str, after: str, names: tuple[str, ...]
) -> None:
    assert binds_too_little(place(before, after), middle) == names


def test_a_doubt_is_told_in_words() -> None:
    assert doubt(BODY, "count = n") == "nothing binds total"
    assert doubt(BODY, "return n") == "what follows it is never reached"
    assert doubt(BODY, "total = n") is None
    assert doubt(place("function f(a) {\n  ", "\n  return b;\n}\n", "javascript"), "return a;") is None


@pytest.mark.parametrize(
    ("before", "after", "block"),
    [
        (
            "import re\n\n\ndef f(n):\n    x = 1\n    ",
            "\n    return n\n\n\ndef g():\n    pass\n",
            ("def f(n):\n    x = 1\n    ", "\n    return n\n\n\n"),
        ),
        (
            "class A:\n    x = 1\n\n    def f(self):\n        ",
            "\n\n    def g(self):\n        pass\n",
            ("    def f(self):\n        ", "\n\n"),
        ),
        (
            "def f(n):\n    if n:\n        y = (\n            1,\n        )\n        ",
            "\n    )\nx = 1\n",
            ("def f(n):\n    if n:\n        y = (\n            1,\n        )\n        ", "\n    )\n"),
        ),
        ("x = 1\ny = ", "\nz = 3\n", ("x = 1\ny = ", "\nz = 3\n")),
        ("def f():\n    pass\n\n\nif x:\n    ", "\nz = 3\n", ("def f():\n    pass\n\n\nif x:\n    ", "\nz = 3\n")),
    ],
)
def test_what_is_read_first_is_the_function_around_the_hole(before: str, after: str, block: tuple[str, str]) -> None:
    assert place(before, after).block == block


@pytest.mark.parametrize("name", ["heapq.heapify(total)", "LIMIT", "Point", "_cache", "contextmanager(total)"])
def test_what_a_window_of_a_file_may_not_show_is_no_doubt(name: str) -> None:
    assert binds_too_little(place("def f(n):\n    ", f"\n    return {name}, total\n"), "total = n") == ()
