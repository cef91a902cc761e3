"""What callers send and get, on a real Triton: scripted tiers that write what they are told, the real sandbox."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import grpc  # type: ignore[import-untyped]
import pytest
import pytest_asyncio
from codecascade_build.server.process import RunningServer
from codecascade_client.answers import Completion
from codecascade_client.client import AsyncCascadeClient
from codecascade_client.errors import RequestFailed

from tests.server.real_server import StartServer
from tests.server.scripted.repository import ScriptedTier, render

pytestmark = pytest.mark.triton

TWO = [
    {"tier": "small", "k": 2, "lines_per_sample": 2, "threshold": 1.0},
    {"tier": "large", "k": 0, "lines_per_sample": 0, "threshold": 0.0},
]
PLANS = {
    "two": TWO,
    "given": {"given_tests": [{"tier": "small", "draws": 2}, {"tier": "large", "draws": 1}], "steps": TWO},
}
MAX_PROMPT_BYTES = 4096
HELPER = "def helper(x):\n    return x + 1\n\n\n"
ADD = 'def add(a, b):\n    """The sum of a and b."""\n'
STACK = "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n"
PUSH = "        self.items.append(item)\n        return self.items\n"
PUSHED = "(1) == [1]\nassert Stack().push(2) == [2]\n"
ADDED = "add(1, 2) == 3\nassert add(4, 4) == 8\n"


@pytest.fixture(scope="module")
def server(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    tiers = [ScriptedTier("small"), ScriptedTier("large")]
    rendered = render(tmp_path_factory.mktemp("requests"), tiers, PLANS, default="two", real_sandbox=True)
    deployment = json.loads(rendered.deployment.read_text())
    rendered.deployment.write_text(json.dumps({**deployment, "max_prompt_bytes": MAX_PROMPT_BYTES}))
    return start_server(rendered.repositories, rendered.deployment)


@pytest_asyncio.fixture
async def client(server: RunningServer) -> AsyncIterator[AsyncCascadeClient]:
    async with AsyncCascadeClient(server.grpc) as connected:
        yield connected


def told(**texts: str) -> str:
    """Comment lines that tell a tier what it writes: small_writes, small_tests, large_writes."""
    return "".join(f"# {who.replace('_', ' ')}: {json.dumps(text)}\n" for who, text in texts.items())


def tiers(answer: Completion) -> list[tuple[str, str]]:
    assert answer.trace
    return [(step["tier"], step["decision"]) for step in answer.trace["steps"]]


def note(answer: Completion) -> str | None:
    assert answer.trace
    said: str | None = answer.trace["note"]
    return said


@pytest.mark.parametrize(
    ("before", "line_end"),
    [("", "\n"), ("", "\r\n"), ("# one \0 two\n", "\n"), ("# one \0 two\n", "\r\n"), ("\ufeff", "\r\n"), ("# \u2028 é\n", "\n")],
)
async def test_the_prompt_comes_back_byte_for_byte(client: AsyncCascadeClient, before: str, line_end: str) -> None:
    prompt = (before + told(large_writes="no") + ADD).replace("\n", line_end)
    answer = await client.complete(prompt, return_trace=True)
    assert answer.text == prompt + answer.inserted
    assert answer.inserted.endswith(f"return a + b{line_end}")
    assert answer.inserted.count("\n") == answer.inserted.count(line_end)
    assert (answer.tier, answer.score, answer.finish_reason) == ("small", 1.0, "stop")


async def test_blanks_at_the_end_of_a_prompt_are_kept(client: AsyncCascadeClient) -> None:
    answer = await client.complete(ADD + "    ")
    assert answer.text == ADD + "    " + answer.inserted
    assert compile(answer.text, "answer", "exec")


async def test_a_method_is_tested_not_the_function_above_it(client: AsyncCascadeClient) -> None:
    right = told(small_writes=PUSH, small_tests=PUSHED) + HELPER + STACK
    answer = await client.complete(right, return_trace=True)
    assert (answer.tier, answer.score) == ("small", 1.0)
    assert answer.trace
    assert (answer.trace["entry_point"], answer.trace["tested"]) == ("Stack.push", "Stack().push")
    wrong = told(small_writes="        return item\n", small_tests=PUSHED, large_writes=PUSH) + HELPER + STACK
    assert tiers(await client.complete(wrong, return_trace=True)) == [("small", "escalate"), ("large", "accept")]


async def test_a_method_does_not_run_on_into_others(client: AsyncCascadeClient) -> None:
    invented = PUSH + "\n    def pop(self):\n        return self.items.pop()\n"
    answer = await client.complete(told(small_writes=invented, small_tests=PUSHED) + STACK)
    assert (answer.tier, answer.inserted) == ("small", PUSH)


async def test_a_coroutine_is_tested_by_running_it(client: AsyncCascadeClient) -> None:
    tests = "(1)) == 2\nassert asyncio.run(later(5)) == 6\n"
    header = 'async def later(x):\n    """x + 1, later."""\n'
    answer = await client.complete(told(small_writes="    return x + 1\n", small_tests=tests) + header, return_trace=True)
    assert answer.trace
    assert (answer.tier, answer.score, answer.trace["tested"]) == ("small", 1.0, "asyncio.run(later")
    assert "import asyncio" not in answer.text


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (STACK.replace("self)", "self, limit)"), "class Stack needs arguments: limit"),
        (HELPER + "# print the first ten\n", "the prompt's last function, helper, is finished"),
        ("import numpy as np\n" + ADD, "the prompt imports numpy, not among the deployment's sandbox_modules"),
        ("function add(a, b) {\n", "the prompt is not Python: it is completed in its own language"),
    ],
)  # fmt: skip
async def test_what_cannot_be_tested_is_completed_by_the_last_tier_and_the_note_says_why(
    client: AsyncCascadeClient, code: str, why: str
) -> None:
    prompt = told(small_writes="no", large_writes="        pass\n") + code
    answer = await client.complete(prompt, return_trace=True)
    assert tiers(answer) == [("large", "accept")]
    assert note(answer) == f"no tests were run: {why}"
    assert answer.text == prompt + answer.inserted
    assert "pass" in answer.inserted
    assert answer.trace
    assert answer.trace["tested"] == ""


async def test_another_language_is_completed_in_its_own(client: AsyncCascadeClient) -> None:
    prompt = told(large_writes="  return a + b;\n}\n") + "function add(a, b) {\n"
    answer = await client.complete(prompt)
    assert answer.text == prompt + "  return a + b;\n}\n"


@pytest.mark.parametrize("placeholder", ["", "    pass\n", "    # TODO\n    raise NotImplementedError\n"])
async def test_an_unfinished_function_is_completed_where_it_is(client: AsyncCascadeClient, placeholder: str) -> None:
    after = "\n\ndef plus(a, b):\n    return a + b\n"
    body = "    return plus(a, b)\n"  # needs what follows
    prompt = told(small_writes=body, small_tests=ADDED) + ADD + placeholder + after
    answer = await client.complete(prompt, return_trace=True)
    assert (answer.tier, answer.score, answer.inserted) == ("small", 1.0, body)
    at = answer.text.index(body)
    assert answer.text[:at] + answer.text[at + len(body) :] == prompt


async def test_a_cursor_says_where_the_code_goes_on(client: AsyncCascadeClient) -> None:
    before = "# é\n" + told(small_writes="    return total\n", small_tests=ADDED) + ADD + "    total = a + b\n"
    after = "\n\ndef last(x):\n    return x\n"
    answer = await client.complete(before + after, cursor=len(before.encode()))
    assert (answer.tier, answer.text) == ("small", before + "    return total\n" + after)


@pytest.mark.parametrize("cursor", [1, 9])
async def test_a_cursor_that_is_nowhere_is_refused(client: AsyncCascadeClient, cursor: int) -> None:
    with pytest.raises(RequestFailed, match=f"cursor is {cursor}, ") as refused:
        await client.complete("é = 1\n", cursor=cursor)
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_cut_answer_goes_to_the_next_tier_and_the_last_ones_is_marked(client: AsyncCascadeClient) -> None:
    written = "    total = a\n    total += b\n    return total\n"
    prompt = told(small_writes=written, small_tests=ADDED, large_writes=written) + ADD
    answer = await client.complete(prompt, max_tokens=7, return_trace=True)
    assert tiers(answer) == [("small", "escalate"), ("large", "accept")]
    assert answer.trace
    assert answer.trace["steps"][0]["finish_reason"] == "length"
    assert answer.finish_reason == "length"
    assert note(answer) == "the answer was cut after 7 tokens, by max_tokens or the end of the context"
    whole = await client.complete(prompt, return_trace=True)
    assert (tiers(whole), whole.finish_reason, note(whole)) == ([("small", "accept")], "stop", None)


async def test_an_answer_that_imports_what_the_sandbox_lacks_is_named(client: AsyncCascadeClient) -> None:
    written = "    import numpy\n    return int(numpy.add(a, b))\n"
    answer = await client.complete(told(small_writes=written, small_tests=ADDED) + ADD, return_trace=True)
    assert tiers(answer) == [("small", "escalate"), ("large", "accept")]
    assert answer.trace
    step = answer.trace["steps"][0]
    assert step["reason"].endswith("; 2 of 2 answers cannot run: it imports numpy, not among the deployment's sandbox_modules")


async def test_a_prompt_over_the_deployments_limit_is_refused(client: AsyncCascadeClient) -> None:
    with pytest.raises(RequestFailed) as refused:
        await client.complete("#" * (MAX_PROMPT_BYTES + 1))
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.sentence == f"prompt has {MAX_PROMPT_BYTES + 1} bytes, must have {MAX_PROMPT_BYTES} or fewer"
    assert (await client.complete("#" * (MAX_PROMPT_BYTES - 1) + "\n")).tier == "large"


EXAMPLE = 'def add(a, b):\n    """The sum.\n\n    >>> add(1, 2)\n    3\n    """\n'


def drawn(answer: Completion) -> list[tuple[str, str, int, int, int]]:
    assert answer.trace
    names = ("tier", "decision", "solutions", "n_given_tests", "n_test_lines")
    return [tuple(step[name] for name in names) for step in answer.trace["steps"]]


async def test_the_examples_of_a_prompt_decide_and_nobody_pays_for_tests(client: AsyncCascadeClient) -> None:
    answer = await client.complete(EXAMPLE, plan="given", return_trace=True)
    assert (answer.text, answer.tier, answer.score) == (EXAMPLE + "    return a + b\n", "small", 1.0)
    assert drawn(answer) == [("small", "accept", 1, 1, 0)]
    assert answer.trace
    assert answer.trace["cost"]["completion_tokens"] == {"small": 4}


async def test_wrong_answers_are_drawn_again_and_then_the_next_tier_is_asked(client: AsyncCascadeClient) -> None:
    answer = await client.complete("# small: wrong\n" + EXAMPLE, plan="given", return_trace=True)
    assert drawn(answer) == [("small", "escalate", 2, 1, 0), ("large", "accept", 1, 1, 0)]
    neither = await client.complete("# small: wrong\n# large: wrong\n" + EXAMPLE, plan="given", return_trace=True)
    assert drawn(neither) == [("small", "escalate", 2, 1, 0), ("large", "keep", 1, 1, 0)]
    assert note(neither) == "no answer passes all given tests: the best one is returned, it passes 0 of 1"


async def test_the_callers_tests_decide_too_and_broken_ones_are_named(client: AsyncCascadeClient) -> None:
    tests = ["assert add(2, 2) == 4", "def test_add():\n    assert add(1, 5) == 6\n"]
    right = await client.complete(ADD, plan="given", return_trace=True, tests=tests)
    assert drawn(right) == [("small", "accept", 1, 2, 0)]
    wrong = await client.complete("# small: wrong\n" + ADD, plan="given", return_trace=True, tests=[*tests, "assert add("])
    assert drawn(wrong) == [("small", "escalate", 2, 2, 0), ("large", "accept", 1, 2, 0)]
    assert (note(wrong) or "").startswith("tests[2] does not parse: line 1")


async def test_too_many_tests_are_refused(client: AsyncCascadeClient) -> None:
    with pytest.raises(RequestFailed, match="tests has 1,001 elements, must have 1,000 or fewer") as refusal:
        await client.complete(ADD, tests=["assert add(1, 1) == 2"] * 1_001)
    assert refusal.value.code is grpc.StatusCode.INVALID_ARGUMENT


CASES = [{"input": "3 4\n", "output": "7"}, {"input": "1 1\n", "output": "2"}]
PROGRAM = "import sys\n\n"
PRINTS_SUM = "print(sum(map(int, sys.stdin.read().split())))\n"
PRINTS_SEVEN = "print(7)\n"
SAMPLES = "# Sample Input\n# 3 4\n#\n# Sample Output\n# 7\n\n"


async def test_a_program_is_held_against_the_callers_cases(client: AsyncCascadeClient) -> None:
    prompt = told(small_writes=PRINTS_SEVEN, large_writes=PRINTS_SUM) + PROGRAM
    answer = await client.complete(prompt, plan="given", return_trace=True, cases=CASES)
    assert drawn(answer) == [("small", "escalate", 2, 2, 0), ("large", "accept", 1, 2, 0)]
    assert (answer.text, answer.score, note(answer)) == (prompt + PRINTS_SUM, 1.0, None)
    assert answer.trace
    assert (answer.trace["entry_point"], answer.trace["tested"]) == (None, "the whole program")
    assert answer.trace["steps"][0]["reason"] == "1 of 2 given tests pass"


@pytest.mark.parametrize(
    "small", [PRINTS_SUM + "while True:\n    pass\n", "print(input())\nprint(input())\n", "print('7' * 10**8)\n"]
)
async def test_a_program_that_misbehaves_is_left(client: AsyncCascadeClient, small: str) -> None:
    prompt = told(small_writes=small, large_writes=PRINTS_SUM) + SAMPLES + PROGRAM
    answer = await client.complete(prompt, plan="given", return_trace=True)
    assert drawn(answer) == [("small", "escalate", 2, 1, 0), ("large", "accept", 1, 1, 0)]
    assert answer.inserted == PRINTS_SUM


async def test_a_function_that_reads_and_prints_is_called(client: AsyncCascadeClient) -> None:
    body = f"    {PRINTS_SUM}"
    answer = await client.complete(told(small_writes=body) + PROGRAM + "def main():\n", plan="given", cases=CASES)
    assert (answer.tier, answer.score, answer.inserted) == ("small", 1.0, body)


async def test_a_plan_without_steps_for_tests_leaves_cases_out_and_says_so(client: AsyncCascadeClient) -> None:
    prompt = told(small_writes="no", large_writes=PRINTS_SUM) + PROGRAM
    answer = await client.complete(prompt, plan="two", return_trace=True, cases=CASES)
    assert drawn(answer) == [("large", "accept", 1, 0, 0)]
    assert note(answer) == "no tests were run: the plan has no steps for requests that come with tests"


async def test_cases_that_are_none_are_refused_and_those_that_cannot_be_run_are_named(client: AsyncCascadeClient) -> None:
    with pytest.raises(RequestFailed) as refusal:
        await client.complete(PROGRAM, cases=[CASES[0], {"in": "1", "out": "2"}])
    assert refusal.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.value.sentence == (
        """cases[1] is '{"in": "1", "out": "2"}', must be a JSON object of two texts, input and output"""
    )
    answer = await client.complete(ADD, plan="given", return_trace=True, cases=CASES, tests=["assert add(1, 1) == 2"])
    assert drawn(answer) == [("small", "accept", 1, 1, 0)]
    assert note(answer) == "cases are not run: nothing calls add"
