import pytest
from codecascade.errors import InvalidRequest
from codecascade.texts.infills import FIM_TOKENS, MAX_LINE_TOKENS, MAX_TOKENS, asked_for, fim_prompt, max_infill_tokens
from codecascade.texts.prompts import solution_prompt
from codecascade.types import Task

TASK = Task("def f(a):\n    x = ", "f", "\n    return x + 1\n", infill=True)


def words(task: Task) -> tuple[str, ...]:
    """The stop words that are no end tokens."""
    return tuple(word for word in fim_prompt("qwen2.5-coder", task).stop if word not in FIM_TOKENS["qwen2.5-coder"].ends)


@pytest.mark.parametrize(
    ("fim", "text"),
    [
        ("qwen2.5-coder", "<|fim_prefix|>def f(a):\n    x = <|fim_suffix|>\n    return x + 1\n<|fim_middle|>"),
        ("starcoder", "<fim_prefix>def f(a):\n    x = <fim_suffix>\n    return x + 1\n<fim_middle>"),
    ],
)
def test_a_model_is_asked_with_the_tokens_that_it_was_trained_with(fim: str, text: str) -> None:
    prompt = fim_prompt(fim, TASK)
    assert (prompt.text, prompt.prefix) == (text, TASK.prompt)
    assert set(FIM_TOKENS[fim].ends) <= set(prompt.stop)


def test_a_model_without_such_tokens_is_not_asked() -> None:
    with pytest.raises(InvalidRequest, match="the tier has no tokens for fill-in-the-middle"):
        asked_for("alpaca", None, TASK)


def test_what_is_no_infill_is_asked_for_as_ever() -> None:
    task = Task("def f(a):\n", "f")
    assert asked_for("chatml", "qwen2.5-coder", task) == solution_prompt("chatml", task)


@pytest.mark.parametrize(
    ("before", "after"), [("# é <|fim_suffix|>\nx = ", "\n# <|endoftext|>\n"), ("x", ""), ("", "x\n"), ("", "")]
)
def test_special_tokens_in_the_callers_texts_are_plain_text(before: str, after: str) -> None:
    prompt = fim_prompt("qwen2.5-coder", Task(before, suffix=after, infill=True))
    content, ranges = prompt.text.encode(), prompt.literal_ranges
    literal = [content[start:end].decode() for start, end in zip(ranges[::2], ranges[1::2], strict=True)]
    assert literal == [text for text in (before, after) if text]


def test_line_ends_are_line_feeds_for_the_model() -> None:
    prompt = fim_prompt("qwen2.5-coder", Task("a = 1\r\nb = ", suffix="\r\nc = 3\r\n", infill=True))
    assert "\r" not in prompt.text


@pytest.mark.parametrize(
    "task", [Task("x = ", suffix=" + 1\n", infill=True), Task("x = ", suffix="\n", infill=True, one_line=True)]
)
def test_an_infill_within_a_line_ends_with_it(task: Task) -> None:
    assert words(task) == ("\n",)
    assert max_infill_tokens(task) == MAX_LINE_TOKENS


def test_an_infill_of_lines_ends_where_the_suffix_begins_or_new_top_level_code_does() -> None:
    assert {"\n    return x + 1", "\n```", "\ndef ", "\nclass "} <= set(words(TASK))
    assert "\n" not in words(TASK)
    assert max_infill_tokens(TASK) == MAX_TOKENS


def test_a_method_ends_at_the_next_member() -> None:
    task = Task("class A:\n    def f(self):\n        ", "A.f", "\n\n    def g(self):\n        pass\n", infill=True)
    assert {"\n    def ", "\n    def g(self):"} <= set(words(task))


def test_a_line_of_few_characters_ends_what_it_closes_alone() -> None:
    assert words(Task("function f() {\n  ", suffix="\n}\n", infill=True)) == ("\n```", "\n}")
    assert words(Task("{\n", suffix="\n}\n", infill=True)) == ("\n```",)


def test_of_long_texts_the_lines_next_to_the_hole_are_sent() -> None:
    before, after = ("".join(f"{name} {n}\n" for n in range(100)) for name in ("before", "after"))
    prompt = fim_prompt("qwen2.5-coder", Task(before, suffix=after, infill=True), chars=100)
    sent = prompt.text.removeprefix("<|fim_prefix|>").removesuffix("<|fim_middle|>").split("<|fim_suffix|>")
    assert sent == [
        "before 93\nbefore 94\nbefore 95\nbefore 96\nbefore 97\nbefore 98\nbefore 99\n",
        "after 0\nafter 1\nafter 2\n",
    ]


def test_a_short_prefix_leaves_its_room_to_the_suffix() -> None:
    after = "".join(f"after {n}\n" for n in range(100))
    prompt = fim_prompt("qwen2.5-coder", Task("x = 1\n", suffix=after, infill=True), chars=100)
    assert prompt.text.count("after") == 11
    assert "<|fim_prefix|>x = 1\n<|fim_suffix|>" in prompt.text


def test_one_line_longer_than_the_room_is_sent_in_part() -> None:
    prompt = fim_prompt("qwen2.5-coder", Task("", suffix="y" * 500, infill=True), chars=100)
    assert prompt.text.count("y") == 100
