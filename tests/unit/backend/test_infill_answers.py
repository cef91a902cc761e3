import pytest
from codecascade.requests import completion
from codecascade.texts.infill_answers import infill_candidate
from codecascade.texts.programs import candidate
from codecascade.texts.prompts import Prompt
from codecascade.texts.syntax import SyntaxFault, syntax_fault
from codecascade.types import Task

BEFORE = "def f(n):\n    total = 0\n    "
AFTER = "\n    return total + 1\n"
LOOP = "for i in range(n):\n        total += i"
TASK = Task(BEFORE, "f", AFTER, infill=True)


def read(text: str, task: Task = TASK, *, cut: bool = False) -> str:
    return infill_candidate(task, text, cut=cut).inserted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (LOOP, "as it is"),
        (f"{LOOP}\n", "blanks at the end"),
        (f"{LOOP}\n    return total + 1\n\nprint(f(3))", "the suffix once more"),
        (f"{LOOP}\n    return  total", "a line that is not the suffix's, but the block does not go on after it"),
        (f"{LOOP}\n```\nThis function adds numbers.", "an explanation"),
        (f"{LOOP}\n    if total >", "a line that the token limit cut"),
    ],
)
def test_what_fits_is_kept_of_what_the_model_wrote(text: str, why: str) -> None:
    if "does not go on" in why:
        assert infill_candidate(TASK, text).problem == "what follows it is never reached"
    else:
        assert read(text) == LOOP, why


def test_an_answer_that_fits_is_the_callers_text_with_it() -> None:
    answer = infill_candidate(TASK, LOOP)
    assert answer.problem is None
    assert answer.source == completion(TASK, answer) == BEFORE + LOOP + AFTER


def test_a_candidate_of_an_infill_is_read_as_one() -> None:
    assert candidate(TASK, Prompt("", "", ()), LOOP).inserted == LOOP


def test_carriage_returns_come_back() -> None:
    task = Task(BEFORE.replace("\n", "\r\n"), "f", AFTER.replace("\n", "\r\n"), infill=True)
    answer = infill_candidate(task, LOOP)
    assert answer.inserted == LOOP.replace("\n", "\r\n")
    assert "\r" not in answer.source
    assert completion(task, answer) == (BEFORE + LOOP + AFTER).replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("text", "rest", "kept"),
    [
        ("a + b", ")", "a + b"),
        ("a + b)", ")", "a + b"),
        ("g(a)", ")", "g(a)"),
        ("a + b)\nprint(1)", ")", "a + b"),
        ("(a + b) * c", ") // 2", "(a + b) * c"),
        ("a, b) // 2", ") // 2", "a, b"),
    ],
)
def test_the_rest_of_the_line_is_not_doubled(text: str, rest: str, kept: str) -> None:
    task = Task("def f(a, b, c):\n    return int(", "f", f"{rest}\n", infill=True)
    assert read(text, task) == kept


def test_one_line_that_was_asked_for_is_one_line() -> None:
    task = Task(BEFORE, "f", AFTER, infill=True, one_line=True)
    assert read("total = n\n    total += 1", task) == "total = n"


def test_where_nothing_fits_the_likeliest_reading_is_kept_and_says_why() -> None:
    answer = infill_candidate(Task(BEFORE, "f", AFTER, infill=True, one_line=True), "if total >")
    assert (answer.inserted, answer.problem) == ("if total >", "it does not parse: invalid syntax")


def test_an_answer_counts_as_cut_only_if_its_end_is_kept() -> None:
    assert infill_candidate(TASK, LOOP, cut=True).cut
    assert not infill_candidate(TASK, f"{LOOP}\n    return total + 1\n\nprint(", cut=True).cut


def test_nothing_written_is_a_problem() -> None:
    for text in ("", "\n", "   \n\n"):
        assert infill_candidate(TASK, text).problem == "the model writes nothing"


def test_other_languages_end_where_their_brackets_do() -> None:
    task = Task("function f(a) {\n  ", suffix="\n}\n\nf(1);\n", infill=True)
    assert (
        read("if (a) {\n    return 1;\n  }\n  return 2;\n}\n\nfunction g() {", task)
        == "if (a) {\n    return 1;\n  }\n  return 2;"
    )


@pytest.mark.parametrize(
    "text", ["x = [\n" * 2_000, "(" * 16_000, "return 1\n" * 1_700, "\n" * 16_000, "'''" * 5_000, "\0\ud800"]
)
@pytest.mark.parametrize("around", [("", ""), ("x = 1\n" * 9_000 + "def f():\n    ", "\n    return 1\n" + "y = 2\n" * 1_000)])
def test_hostile_texts_are_read_by_few_parses(text: str, around: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def counted(source: str) -> SyntaxFault | None:
        parsed.append(source)
        return syntax_fault(source)

    monkeypatch.setattr("codecascade.texts.fitting.syntax_fault", counted)
    answer = infill_candidate(Task(around[0], suffix=around[1], infill=True, language="python"), text)
    assert answer.source.startswith(around[0])
    assert sum(map(len, parsed)) <= 300_000
