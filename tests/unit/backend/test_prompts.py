"""Prompts: what each style asks, what it primes, where it stops."""

from __future__ import annotations

import pytest
from codecascade.texts import prompts
from codecascade.texts.prompts import STYLES, solution_prompt
from codecascade.types import Task

ADD = Task('def add(a: int, b: int) -> int:\n    """The sum."""\n', "add")
ADD_CLOSED = ADD.prompt + "    pass\n"


def asked_for_tests(style: str, task: Task = ADD, lines: int = 2) -> prompts.Prompt:
    return prompts.tests_prompt(style, task, lines)


def test_base_sends_the_prompt_as_it_is() -> None:
    prompt = solution_prompt("base", ADD)
    assert prompt.text == prompt.prefix == ADD.prompt


def test_base_asks_for_tests_below_an_empty_body() -> None:
    prompt = asked_for_tests("base")
    assert prompt.text == ADD_CLOSED + "\n# check the correctness of add\nassert "
    assert prompt.prefix == "assert "


def test_alpaca_wraps_the_request_in_its_instruction() -> None:
    assert solution_prompt("alpaca", ADD).text == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nCreate a Python script for this problem:\n" + ADD.prompt + "\n\n### Response:"
    )
    assert solution_prompt("alpaca", ADD).prefix == ""


def test_alpaca_begins_the_first_assert() -> None:
    prompt = asked_for_tests("alpaca", lines=4)
    assert "### Instruction:\nWrite 4 lines of code to test the correctness of add:\n" + ADD_CLOSED in prompt.text
    assert prompt.text.endswith("\n\n### Response:assert add")
    assert prompt.prefix == "assert add"


def test_chatml_is_the_models_chat_template_primed_with_the_prompts_own_code() -> None:
    prompt = solution_prompt("chatml", ADD)
    assert prompt.text == (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nCreate a Python script for this problem:\n" + ADD.prompt + "<|im_end|>\n"
        "<|im_start|>assistant\n```python\n" + ADD.prompt
    )
    assert prompt.prefix == ADD.prompt


def test_chatml_can_send_the_code_once_and_is_read_alike() -> None:
    twice, once = solution_prompt("chatml", ADD), solution_prompt("chatml", ADD, once=True)
    assert once.text == twice.text.replace(f":\n{ADD.prompt}<|im_end|>", ".<|im_end|>")
    assert (once.prefix, once.stop) == (twice.prefix, twice.stop)
    prose = Task("Write a function.")
    assert solution_prompt("chatml", prose, once=True) == solution_prompt("chatml", prose)
    for style in ("base", "alpaca"):
        assert solution_prompt(style, ADD, once=True) == solution_prompt(style, ADD)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("code", [ADD.prompt, "def f(x):  # 漢 {code} <|im_end|>\n", "Write <|im_end|> twice.", ""], ids=repr)
def test_the_caller_s_code_and_nothing_else_is_marked(style: str, code: str) -> None:
    task = Task(code, "f")
    for prompt in (solution_prompt(style, task), asked_for_tests(style, task)):
        content = prompt.text.encode()
        pairs = list(zip(prompt.literal_ranges[::2], prompt.literal_ranges[1::2], strict=True))
        assert all(content[start:end].decode().startswith(code) for start, end in pairs)
        assert len(pairs) == (prompt.text.count(code) if code else 0)


def test_chatml_begins_the_first_assert_but_leaves_its_bracket_to_the_model() -> None:
    prompt = asked_for_tests("chatml", lines=4)
    assert "user\nWrite 4 lines of code to test the correctness of add:\n" + ADD_CLOSED + "<|im_end|>" in prompt.text
    assert prompt.text.endswith("<|im_start|>assistant\n```python\nassert add")
    assert prompt.prefix == "assert add"


@pytest.mark.parametrize("style", ["base", "chatml"])
@pytest.mark.parametrize(
    "after",
    ["\ndef helper():", "\nprint(add(1, 2))", "\n# Test", "\nif __name__", "\nassert add", "\n```", "\nclass A:", "\n@cache"],
)
def test_a_solution_stops_where_the_function_ends(style: str, after: str) -> None:
    assert any(after.startswith(word) for word in solution_prompt(style, ADD).stop)


@pytest.mark.parametrize("style", ["base", "chatml"])
@pytest.mark.parametrize("within", ["\n    # a comment", "\n\n    return a", "\n        ```", "\n)", "\n]", "\n}"])
def test_a_solution_does_not_stop_inside_the_function(style: str, within: str) -> None:
    assert not any(word in within for word in solution_prompt(style, ADD).stop)


@pytest.mark.parametrize("style", ["base", "chatml"])
def test_a_prompt_that_opens_no_function_stops_at_the_fence_alone(style: str) -> None:
    assert solution_prompt(style, Task("import sys\n")).stop == ("\n```",)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("after", ["\n\n", "\n```", "\n# more", "\nprint(1)", "\ndef f():"])
def test_tests_stop_where_the_asserts_end(style: str, after: str) -> None:
    assert any(after.startswith(word) for word in asked_for_tests(style).stop)
    assert not any(word in "\nassert add(1, 2) == 3  # three" for word in asked_for_tests(style).stop)


def test_a_prompt_that_is_not_python_is_asked_about_but_not_primed() -> None:
    prompt = solution_prompt("chatml", Task("Write a function that adds two numbers."))
    assert prompt.prefix == ""
    assert "Write a function that adds two numbers.<|im_end|>" in prompt.text
    assert prompt.text.endswith("assistant\n```python\n")


@pytest.mark.parametrize("style", ["alpaca", "chatml"])
def test_another_language_is_completed_in_its_own(style: str) -> None:
    code = "function add(a, b) {\n"
    prompt = solution_prompt(style, Task(code))
    assert f"Complete this code, in its own language:\n{code}" in prompt.text
    assert prompt.text.endswith(f"\n```\n{code}")
    assert (prompt.prefix, prompt.stop) == (code, ("\n```",))
    assert "ython" not in prompt.text


def test_python_that_cannot_be_read_is_primed_all_the_same() -> None:
    code = "def f(x):\n    y = = 1\n"
    prompt = solution_prompt("chatml", Task(code))
    assert prompt.prefix == code
    assert prompt.text.endswith(f"```python\n{code}")


METHOD = Task(
    'class Stack:\n    @property\n    def top(self):\n        """The last item."""\n', "Stack.top", expression="Stack().top"
)


@pytest.mark.parametrize("style", ["base", "chatml"])
@pytest.mark.parametrize(
    "after", ["\n    def pop", "\n    @property", "\n    async def", "\n    class A", "\n    # Next", "\ndef f", "\n```"]
)
def test_a_method_stops_where_the_next_member_begins(style: str, after: str) -> None:
    stop = solution_prompt(style, METHOD).stop
    assert any(after.startswith(word) for word in stop)
    assert not any(word in "\n        # a comment\n        def inner():\n" for word in stop)


@pytest.mark.parametrize("style", ["base", "chatml"])
def test_within_a_line_an_answer_ends_with_the_line(style: str) -> None:
    assert solution_prompt(style, Task("def f(x):\n    return (", "f", suffix=")\n")).stop == ("\n",)
    assert "\n" not in solution_prompt(style, Task("def f(x):", "f", suffix="\n\nx = 1\n")).stop


@pytest.mark.parametrize("style", ["base", "chatml"])
def test_top_level_code_below_a_finished_function_stops_at_the_fence_alone(style: str) -> None:
    assert solution_prompt(style, Task("def f(x):\n    return x\n\n\n# print a table\n")).stop == ("\n```",)


@pytest.mark.parametrize("style", STYLES)
def test_an_assert_begins_with_what_reaches_the_unit(style: str) -> None:
    prompt = asked_for_tests(style, METHOD)
    assert "the correctness of Stack.top" in prompt.text
    assert prompt.text.endswith("assert Stack().top")
    assert prompt.prefix == "assert Stack().top"


@pytest.mark.parametrize("style", ["alpaca", "chatml"])
def test_what_follows_the_hole_is_shown(style: str) -> None:
    following = "def last(x):\n    return add(x, 1)"
    prompt = solution_prompt(style, Task(ADD.prompt, "add", suffix=f"\r\n\n{following}\n"))
    assert f"{ADD.prompt}\n\nThis code follows it:\n{following}" in prompt.text


@pytest.mark.parametrize("style", STYLES)
def test_blanks_at_the_end_of_a_prompt_are_left_to_the_model(style: str) -> None:
    # A model's tokens carry their own leading blanks; after blanks of ours it writes something unlikely.
    assert solution_prompt(style, Task(ADD.prompt + "    ", "add")) == solution_prompt(style, ADD)


@pytest.mark.parametrize("style", STYLES)
def test_line_ends_do_not_change_a_prompt(style: str) -> None:
    windows = Task(ADD.prompt.replace("\n", "\r\n"), "add")
    assert solution_prompt(style, windows) == solution_prompt(style, ADD)
    assert asked_for_tests(style, windows) == asked_for_tests(style)


def test_braces_in_a_prompt_are_text() -> None:
    task = Task('def f(d):\n    """{request} {0} }{"""\n', "f")
    for style in STYLES:
        assert task.prompt in solution_prompt(style, task).text
        assert task.prompt in asked_for_tests(style, task).text


def test_an_unknown_style_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'chat' is unknown, allowed are base, alpaca, chatml"):
        solution_prompt("chat", ADD)
    with pytest.raises(ValueError, match="'chat' is unknown"):
        asked_for_tests("chat")


def test_without_an_entry_point_there_are_no_tests_to_ask_for() -> None:
    with pytest.raises(ValueError, match="without an entry point"):
        asked_for_tests("chatml", Task("import sys\n"))
