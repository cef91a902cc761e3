"""The cascade model on a real Triton, over gRPC: scripted tiers, the real sandbox."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
import pytest
import pytest_asyncio
from codecascade_build.errors import BuildError
from codecascade_build.server.process import RunningServer
from codecascade_client.answers import Completion
from codecascade_client.client import AsyncCascadeClient
from codecascade_client.errors import RequestFailed
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tests.server.metrics import eventually, metric
from tests.server.real_server import StartServer
from tests.server.scripted.repository import ScriptedRepository, ScriptedTier, plan_document, render

pytestmark = pytest.mark.triton

PROMPT = 'def add(a, b):\n    """The sum of a and b."""\n'


def step(tier: str, k: int = 3, lines_per_sample: int = 2, threshold: float = 1.0) -> dict[str, Any]:
    return {"tier": tier, "k": k, "lines_per_sample": lines_per_sample if k else 0, "threshold": threshold}


TIERS = [
    ScriptedTier("small", price_per_mtok=1.0),
    ScriptedTier("large", price_per_mtok=3.0, prompt_price_per_mtok=0.5, context_tokens=4096),
    ScriptedTier("slow", delay_s=1.0, max_in_flight=64),
    ScriptedTier("mortal", delay_s=0.5),  # both of its calls are under way when it dies
    ScriptedTier("impatient", timeout_s=0.5),
]
PLANS = {
    "two": [step("small"), step("large")],
    "greedy-last": [step("small"), step("large", k=0)],
    "slow": [step("slow", k=1)],
    "mortal": [step("mortal"), step("large")],
    "impatient": [step("impatient"), step("large")],
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ScriptedRepository:
    return render(tmp_path_factory.mktemp("scripted"), TIERS, PLANS, default="two", real_sandbox=True)


@pytest.fixture(scope="module")
def server(start_server: StartServer, repository: ScriptedRepository) -> RunningServer:
    return start_server(repository.repositories, repository.deployment, ["--restarts=0"])  # `mortal` dies and stays dead


@pytest_asyncio.fixture
async def client(server: RunningServer) -> AsyncIterator[AsyncCascadeClient]:
    async with AsyncCascadeClient(server.grpc) as connected:
        yield connected


def told(*behaviours: str) -> str:
    """A prompt that tells tiers how to behave."""
    return "".join(f"# {behaviour}\n" for behaviour in behaviours) + PROMPT


def decisions(answer: Completion) -> list[tuple[str, str]]:
    assert answer.trace
    return [(step["tier"], step["decision"]) for step in answer.trace["steps"]]


async def test_a_convincing_first_tier_answers_alone(client: AsyncCascadeClient) -> None:
    answer = await client.complete(PROMPT, return_trace=True)
    assert answer.text.startswith(PROMPT)
    assert answer.text.endswith("return a + b\n")
    assert (answer.tier, answer.score) == ("small", 1.0)
    assert answer.trace
    assert decisions(answer) == [("small", "accept")]
    tokens = answer.trace["cost"]["completion_tokens"]["small"]
    assert answer.cost_usd == pytest.approx(tokens * 1e-6) == pytest.approx(answer.trace["cost"]["cost_usd"])


async def test_the_trace_comes_only_when_it_is_asked_for(client: AsyncCascadeClient) -> None:
    assert (await client.complete(PROMPT)).trace is None


@pytest.mark.parametrize("behaviour", ["wrong", "wrong_tests", "no_tests"])
async def test_escalates_when_the_first_tier_does_not_convince(client: AsyncCascadeClient, behaviour: str) -> None:
    answer = await client.complete(told(f"small: {behaviour}"), return_trace=True)
    assert answer.tier == "large"
    assert answer.text.endswith("return a + b\n")
    assert decisions(answer) == [("small", "escalate"), ("large", "accept")]


async def test_the_price_of_every_tier_that_was_asked_is_paid(client: AsyncCascadeClient) -> None:
    answer = await client.complete(told("small: wrong"), plan="greedy-last", return_trace=True)
    assert answer.trace
    written, read = (answer.trace["cost"][kind] for kind in ("completion_tokens", "prompt_tokens"))
    assert answer.cost_usd == pytest.approx(written["small"] * 1e-6 + written["large"] * 3e-6 + read["large"] * 0.5e-6)
    assert read["large"] > 0


async def test_a_prompt_without_a_function_is_completed_greedily_by_the_last_tier(client: AsyncCascadeClient) -> None:
    answer = await client.complete("total = 1\n", return_trace=True)
    assert decisions(answer) == [("large", "accept")]
    assert answer.trace
    assert answer.trace["note"] == "no tests were run: the prompt defines no function to test"


async def test_the_same_seed_gives_the_same_answer_and_trace(client: AsyncCascadeClient) -> None:
    prompt = told("small: wrong")
    first, second = [await client.complete(prompt, seed=7, return_trace=True) for _ in range(2)]
    assert first.text == second.text
    assert timeless(first.trace) == timeless(second.trace)


async def test_another_seed_gives_another_sample(client: AsyncCascadeClient) -> None:
    first, second = [await client.complete(PROMPT, seed=seed) for seed in (7, 2**64 - 1)]
    assert first.text != second.text


async def test_32_requests_at_once_take_little_longer_than_one(client: AsyncCascadeClient) -> None:
    one, many = [], []
    for _ in range(3):
        one.append(await elapsed_s(client, 1))
        many.append(await elapsed_s(client, 32))
    assert min(many) < 1.5 * min(one)


@pytest.mark.parametrize(
    ("plan", "behaviour", "reason"),
    [
        ("two", "small: fail", "tier small: told to fail"),
        ("impatient", "impatient: stall", "tier impatient: no answer within 0.5 s"),
        ("mortal", "mortal: die", "tier mortal: its process has ended"),
    ],
)
async def test_a_tier_that_fails_is_skipped_upward(client: AsyncCascadeClient, plan: str, behaviour: str, reason: str) -> None:
    answer = await client.complete(told(behaviour), plan=plan, return_trace=True)
    assert answer.text.endswith("return a + b\n")
    assert answer.trace
    assert [step["decision"] for step in answer.trace["steps"]] == ["skipped", "accept"]
    assert answer.trace["steps"][0]["reason"] == reason


async def test_the_best_earlier_candidate_is_returned_and_marked_when_the_last_tier_fails(client: AsyncCascadeClient) -> None:
    answer = await client.complete(told("small: wrong", "large: fail"), return_trace=True)
    assert answer.tier == "small"
    assert answer.text.endswith("return a - b\n")
    assert answer.trace
    assert answer.trace["note"] == (
        "the last tier failed (tier large: told to fail): the best earlier candidate is returned, it was not accepted"
    )


async def test_the_request_fails_with_one_sentence_when_no_tier_answers(client: AsyncCascadeClient) -> None:
    with pytest.raises(RequestFailed) as failure:
        await client.complete(told("small: fail", "large: fail"))
    assert failure.value.code is grpc.StatusCode.UNAVAILABLE
    assert failure.value.sentence == "no tier answered: tier small: told to fail; tier large: told to fail"
    assert await serves(client)


async def test_a_cancelled_request_ends_on_the_server_too(client: AsyncCascadeClient, server: RunningServer) -> None:
    cancelled, stopped = 'codecascade_requests_total{outcome="cancelled",plan="two"}', 'scripted_stopped_calls{tier="small"}'
    before = metric(server, cancelled), metric(server, stopped)
    after = before[0] + 1, before[1] + 2  # the tier was writing solutions and tests
    request = asyncio.ensure_future(client.complete(told("small: stall")))
    await asyncio.wait({request}, timeout=0.5)
    request.cancel()
    await eventually(lambda: (metric(server, cancelled), metric(server, stopped)) == after, within_s=4.0)
    assert await serves(client)


TOO_LONG = 'def add(a, b):\n    """' + "word " * 5000 + '"""\n'
BYTES, INT32 = np.object_, np.int32
BAD_INPUTS: dict[str, tuple[dict[str, tuple[list[Any], Any]], str]] = {
    "empty prompt": ({"prompt": ([b""], BYTES)}, "prompt is empty, must be UTF-8 text of at least one character"),
    "not UTF-8": ({"prompt": ([b"x = \xff"], BYTES)}, "prompt is not UTF-8 (byte 4 of 5), must be UTF-8 text"),
    "too long": ({"prompt": ([TOO_LONG.encode()], BYTES)}, "tier large: the prompt has … tokens, the context has 4096"),
    "unknown plan": (
        {"plan": ([b"no such"], BYTES)},
        "plan 'no such' is unknown, allowed are greedy-last, impatient, mortal, slow, two",
    ),
    "empty plan": ({"plan": ([b""], BYTES)}, "plan is empty, must be UTF-8 text of at least one character"),
    "negative max_tokens": ({"max_tokens": ([-5], INT32)}, "max_tokens is -5, must be 1 to 512"),
    "no max_tokens": ({"max_tokens": ([0], INT32)}, "max_tokens is 0, must be 1 to 512"),
    "huge max_tokens": ({"max_tokens": ([2**31 - 1], INT32)}, "max_tokens is 2147483647, must be 1 to 512"),
    "unknown entry point": (
        {"entry_point": ([b"subtract"], BYTES)},
        "entry_point is 'subtract', which the prompt does not define, allowed are add",
    ),
    "two prompts": (
        {"prompt": ([b"x", b"y"], BYTES)},
        "unexpected shape for input 'prompt' for model 'cascade'. Expected [1], got [2].",
    ),
    "a prompt in two dimensions": (
        {"prompt": ([[b"x"]], BYTES)},
        "unexpected shape for input 'prompt' for model 'cascade'. Expected [1], got [1,1].",
    ),
    "a prompt of numbers": (
        {"prompt": ([1], INT32)},
        "inference input 'prompt' data-type is 'INT32', but model 'cascade' expects 'BYTES'",
    ),
    "an input there is none of": ({"temprature": ([1], INT32)}, "unexpected inference input 'temprature' for model 'cascade'"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
async def test_bad_input_gets_one_sentence_and_the_server_goes_on(
    client: AsyncCascadeClient, server: RunningServer, case: str
) -> None:
    tensors, sentence = BAD_INPUTS[case]
    async with InferenceServerClient(server.grpc) as raw:
        with pytest.raises(InferenceServerException) as failure:
            await raw.infer("cascade", [tensor(*item) for item in ({"prompt": ([PROMPT.encode()], BYTES)} | tensors).items()])
    assert failure.value.status() == "StatusCode.INVALID_ARGUMENT"
    said = re.sub(r"^\[request id: \S+\] ", "", failure.value.message().strip())
    assert (
        re.sub(r"\d+ tokens", "… tokens", said) == sentence
    )  # the prompt for solutions or the one for tests, whichever came first
    assert await serves(client)


async def test_a_request_without_a_prompt_is_refused(client: AsyncCascadeClient, server: RunningServer) -> None:
    async with InferenceServerClient(server.grpc) as raw:
        with pytest.raises(InferenceServerException, match="prompt") as failure:
            await raw.infer("cascade", [tensor("plan", ([b"two"], BYTES))])
    assert failure.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert await serves(client)


async def test_a_plan_file_in_force_is_replaced_by_a_sound_one_and_never_by_a_corrupt_one(
    client: AsyncCascadeClient, server: RunningServer, repository: ScriptedRepository
) -> None:
    before = repository.plans.read_text()
    undeployed = plan_document({**PLANS, "undeployed": [step("small"), step("absent")]}, "two")
    try:
        for text, refusal in (
            ('{"format": 1, "plans": {"two"', "cannot be read"),
            (json.dumps(undeployed), "does not fit the deployment: plan 'undeployed' names tier 'absent', which is not deployed"),
            (json.dumps({**plan_document(PLANS, "two"), "family": "other"}), "its family is 'other', must be 'scripted'"),
        ):
            replace(repository.plans, text)
            await served_until(partial(logged, server, refusal), client, tiers={"small"})
            assert server.log_text().count(refusal) == 1
        replace(repository.plans, json.dumps(plan_document({"only-large": [step("large")]}, "only-large")))
        await served_until(lambda tier: tier == "large", client, tiers={"small", "large"})
    finally:
        replace(repository.plans, before)
    await served_until(lambda tier: tier == "small", client, tiers={"small", "large"})


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("{", "cannot be read: Expecting property name"),
        (
            json.dumps(plan_document({"one": [step("small"), step("absent")]}, "one")),
            "does not fit the deployment: plan 'one' names tier 'absent', which is not deployed, deployed are small",
        ),
        (
            json.dumps({**plan_document({"one": [step("small")]}, "one"), "family": "other"}),
            "does not fit the deployment: its family is 'other', must be 'scripted', which is deployed",
        ),
    ],
)
def test_a_server_does_not_start_with_a_plan_file_that_it_cannot_use(
    start_server: StartServer, tmp_path: Path, text: str, refusal: str
) -> None:
    broken = render(tmp_path, [ScriptedTier("small")], {"one": [step("small")]}, default="one")
    broken.plans.write_text(text)
    with pytest.raises(BuildError, match=re.escape(f"plan file {broken.plans} {refusal}")):
        start_server(broken.repositories, broken.deployment)


async def test_programs_can_be_judged_by_the_sandbox_of_another_server(
    start_server: StartServer, server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODECASCADE_SANDBOX_URL", server.grpc)
    here = render(tmp_path, TIERS[:2], {"two": PLANS["two"]}, default="two")  # its own sandbox lets everything pass
    async with AsyncCascadeClient(start_server(here.repositories, here.deployment).grpc) as client:
        assert decisions(await client.complete(PROMPT, return_trace=True)) == [("small", "accept")]
        wrong = await client.complete(told("small: wrong"), return_trace=True)
        assert decisions(wrong) == [("small", "escalate"), ("large", "accept")]


async def test_metrics_tell_of_requests_decisions_tokens_cost_and_time(client: AsyncCascadeClient, server: RunningServer) -> None:
    await client.complete(told("small: wrong"))
    wanted = {
        'codecascade_requests_total{outcome="answered",plan="two"}',
        'codecascade_decisions_total{decision="escalate",outcome="answered",plan="two",tier="small"}',
        'codecascade_tokens_total{kind="completion",tier="large"}',
        'codecascade_cost_usd_total{outcome="answered",tier="large"}',
        'codecascade_sandbox_cpu_seconds_total{tier="small"}',
        'codecascade_stage_duration_seconds_sum{stage="generate",tier="small"}',
    }
    await eventually(lambda: all(metric(server, name) > 0 for name in wanted), within_s=5.0)


async def serves(client: AsyncCascadeClient) -> bool:
    return (await client.complete(PROMPT)).tier == "small"


async def served_until(holds: Callable[[str], bool], client: AsyncCascadeClient, tiers: set[str]) -> None:
    """Ask until `holds` is true of the tier that answers. Until then any of `tiers` may answer."""
    deadline = time.monotonic() + 10.0
    while not holds(tier := (await client.complete(PROMPT)).tier):
        assert tier in tiers
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def logged(server: RunningServer, sentence: str, _: str) -> bool:
    return sentence in server.log_text()


async def elapsed_s(client: AsyncCascadeClient, requests: int) -> float:
    started = time.perf_counter()
    await asyncio.gather(*(client.complete(PROMPT, plan="slow", seed=seed) for seed in range(requests)))
    return time.perf_counter() - started


def timeless(trace: Any) -> Any:
    """A trace without its measured times."""
    if isinstance(trace, dict):
        measured = {key for key in trace if key.endswith("_ms") or key == "sandbox_s"}
        return {key: timeless(value) for key, value in trace.items() if key not in measured}
    return [timeless(value) for value in trace] if isinstance(trace, list) else trace


def tensor(name: str, content: tuple[list[Any], Any]) -> InferInput:
    values = np.array(content[0], content[1])
    made = InferInput(name, list(values.shape), "BYTES" if values.dtype == np.object_ else "INT32")
    made.set_data_from_numpy(values)
    return made


def replace(path: Path, text: str) -> None:
    """Replace a file atomically, as a deployment would."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)
