"""What a cascade does when there is too much to do, and when a tier is at fault: scripted tiers on a real Triton."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from codecascade.errors import Overloaded
from codecascade.triton.calls.breaker import FAILURES
from codecascade_build.server.process import RunningServer
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tests.server.metrics import eventually, metric
from tests.server.real_server import StartServer
from tests.server.scripted.garbled import GARBLED
from tests.server.scripted.repository import ScriptedTier, render

pytestmark = pytest.mark.triton

PROMPT = 'def add(a, b):\n    """The sum of a and b."""\n'
SURE, LAST = {"k": 0, "accept_log_prob": -1.0}, {"k": 0}  # one greedy answer, accepted by its log-probability; or in any case
TIERS = [
    ScriptedTier("small"),
    ScriptedTier("slow", delay_s=1.0, timeout_s=1.5, max_in_flight=2),
    ScriptedTier("large", price_per_mtok=10.0),
]
PLANS = {
    "two": [{"tier": "small", **SURE}, {"tier": "large", **LAST}],
    "cheap": [{"tier": "small", **LAST}],
    "slow": [{"tier": "slow", **SURE}, {"tier": "large", **LAST}],
}
MAX_REQUESTS, MAX_REQUEST_BYTES, SWITCH_SINCE = 12, 2 << 20, 6


@dataclass(frozen=True)
class Answer:
    tier: str
    cost_usd: float
    steps: list[dict[str, Any]]
    plan: str
    note: str | None


@pytest.fixture(scope="module")
def server(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    rendered = render(tmp_path_factory.mktemp("overload"), TIERS, PLANS, default="two")
    document = json.loads(rendered.deployment.read_text())
    document |= {"max_requests": MAX_REQUESTS, "max_request_bytes": MAX_REQUEST_BYTES}
    document["load_policy"] = [
        {"plan": "cheap", "since": SWITCH_SINCE, "until": 2},
        {"plan": "not in the file", "since": MAX_REQUESTS, "until": SWITCH_SINCE},
    ]
    document["tiers"][1]["max_queue"] = 4
    rendered.deployment.write_text(json.dumps(document))
    return start_server(rendered.repositories, rendered.deployment)


@pytest_asyncio.fixture
async def client(server: RunningServer) -> AsyncIterator[InferenceServerClient]:
    async with InferenceServerClient(server.grpc) as connected:
        yield connected


async def ask(client: InferenceServerClient, prompt: str = PROMPT, plan: str = "two", tests: str = "") -> Answer:
    """plan: empty for the default one."""
    texts = {name: text for name, text in {"prompt": prompt, "plan": plan, "tests": tests}.items() if text}
    inputs = [
        InferInput(name, [1], "BYTES").set_data_from_numpy(np.array([text.encode()], np.object_)) for name, text in texts.items()
    ]
    traced = InferInput("return_trace", [1], "BOOL").set_data_from_numpy(np.array([True]))
    result = await client.infer("cascade", [*inputs, traced])
    trace = json.loads(result.as_numpy("trace")[0])
    return Answer(
        result.as_numpy("tier")[0].decode(), float(result.as_numpy("cost")[0]), trace["steps"], trace["plan"], trace["note"]
    )


def told(*behaviours: str) -> str:
    return "".join(f"# {behaviour}\n" for behaviour in behaviours) + PROMPT


async def refusal(client: InferenceServerClient, **request: Any) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as refused:
        await ask(client, **request)
    return str(refused.value.status()), str(refused.value.message())


async def asked_until(holds: Callable[[Answer], bool], client: InferenceServerClient, plan: str = "two") -> Answer:
    deadline = time.monotonic() + 20.0
    while not holds(answer := await ask(client, plan=plan)):
        assert time.monotonic() < deadline
    return answer


async def test_waiting_is_no_failure_and_what_cannot_wait_is_refused_and_nothing_goes_upward(
    client: InferenceServerClient,
) -> None:
    """Two calls are made at a time and four wait. The last of them wait longer than the tier's timeout, which has not begun."""
    outcomes = await asyncio.gather(*(ask(client, plan="slow") for _ in range(9)), return_exceptions=True)
    answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
    refused = [outcome.message() for outcome in outcomes if isinstance(outcome, InferenceServerException)]
    assert [answer.tier for answer in answers] == ["slow"] * 6
    assert len(refused) == 3
    for sentence in refused:
        assert "tier slow has 2 calls under way and 4 waiting, must have 2 and 4 or fewer" in sentence
        assert Overloaded.read(sentence)


async def test_a_full_cascade_refuses_at_once_and_takes_requests_again_afterwards(client: InferenceServerClient) -> None:
    held = [asyncio.ensure_future(ask(client, told("small: stall"))) for _ in range(MAX_REQUESTS + 3)]
    outcomes = await asyncio.gather(*held, return_exceptions=True)
    assert [outcome.tier for outcome in outcomes if isinstance(outcome, Answer)] == ["small"] * MAX_REQUESTS
    failures = [outcome for outcome in outcomes if isinstance(outcome, InferenceServerException)]
    assert [failure.status() for failure in failures] == ["StatusCode.UNAVAILABLE"] * 3
    for refused in (Overloaded.read(str(failure.message())) for failure in failures):
        assert refused
        assert refused.what == f"the cascade has {MAX_REQUESTS} calls under way, must have {MAX_REQUESTS} or fewer"
        assert refused.retry_after_s >= 1
    assert (await ask(client)).tier == "small"


async def test_abandoned_requests_stop_their_calls_and_those_that_wait_make_none(
    client: InferenceServerClient, server: RunningServer
) -> None:
    stopped, made = 'scripted_stopped_calls{tier="slow"}', 'nv_inference_request_success{model="slow",version="1"}'
    before = metric(server, stopped), metric(server, made)
    requests = [asyncio.ensure_future(ask(client, told("slow: stall"), plan="slow")) for _ in range(6)]
    await asyncio.wait(requests, timeout=1.2)  # calls of a second, and then they stall
    for request in requests:
        request.cancel()
    await eventually(lambda: metric(server, stopped) == before[0] + 2, within_s=4.0)
    assert (await ask(client, plan="slow")).tier == "slow"
    assert metric(server, stopped) == before[0] + 2
    # Two calls that were stopped, one or two messages that stopped them, and the last one; calls of all six would be more.
    await eventually(lambda: metric(server, made) - before[1] in (4, 5), within_s=4.0)


async def test_under_load_a_request_without_a_plan_gets_the_cheaper_one_and_its_trace_says_so(
    client: InferenceServerClient,
) -> None:
    assert (await ask(client, plan="")).plan == "two"
    held = [asyncio.ensure_future(ask(client, told("small: stall"))) for _ in range(SWITCH_SINCE)]
    answer = await asked_until(lambda answer: answer.plan == "cheap", client, plan="")
    assert answer.note
    assert answer.note.startswith("plan 'cheap' was taken because of load")
    named = await ask(client, plan="two")
    assert (named.plan, "load" in (named.note or "")) == ("two", False)
    await asyncio.gather(*held)
    calm = await asked_until(lambda answer: answer.plan == "two", client, plan="")
    assert "load" not in (calm.note or "")


async def test_a_plan_for_load_that_is_not_in_the_file_leaves_the_default_one(client: InferenceServerClient) -> None:
    held = [asyncio.ensure_future(ask(client, told("small: stall"), plan="")) for _ in range(MAX_REQUESTS)]
    answers = await asyncio.gather(*held)
    assert {answer.plan for answer in answers} <= {"two", "cheap"}


@pytest.mark.parametrize("case", GARBLED)
async def test_a_tier_that_answers_garbage_is_skipped_and_nothing_of_it_is_billed(
    client: InferenceServerClient, case: str
) -> None:
    await asked_until(lambda answer: answer.tier == "small", client)  # its breaker is closed
    answer = await ask(client, told(f"small garbles: {json.dumps(GARBLED[case])}"))
    assert [(step["tier"], step["decision"]) for step in answer.steps] == [("small", "skipped"), ("large", "accept")]
    assert answer.cost_usd == pytest.approx(answer.steps[1]["completion_tokens"] * 10e-6)
    assert answer.cost_usd > 0


async def test_a_tier_that_fails_again_and_again_is_not_asked_for_a_while(client: InferenceServerClient) -> None:
    await asked_until(lambda answer: answer.tier == "small", client)
    for _ in range(FAILURES):
        assert (await ask(client, told("small: fail"))).steps[0]["reason"] == "tier small: told to fail"
    answer = await ask(client)
    assert answer.tier == "large"
    assert answer.steps[0]["reason"] == ("tier small: it is not asked for a moment, because its last calls failed: told to fail")
    assert (await asked_until(lambda answer: answer.tier == "small", client)).tier == "small"


async def test_a_request_that_is_too_large_is_refused_with_its_size(client: InferenceServerClient) -> None:
    tests = "x" * MAX_REQUEST_BYTES
    size = len(PROMPT) + len("two") + len(tests) + 1
    assert await refusal(client, tests=tests) == (
        "StatusCode.INVALID_ARGUMENT",
        f"the request has {size} bytes, must have {MAX_REQUEST_BYTES} or fewer",
    )
    assert (await ask(client)).tier == "small"


async def test_a_request_that_is_worked_on_holds_no_shared_memory_of_its_size(
    client: InferenceServerClient, server: RunningServer
) -> None:
    await ask(client)
    before = shared_bytes(server)
    held = []
    for _ in range(8):
        held.append(asyncio.ensure_future(ask(client, told("small: stall"), tests="x" * (1 << 20))))
        await ask(client)
    assert shared_bytes(server) - before < 4 << 20
    assert {answer.tier for answer in await asyncio.gather(*held)} == {"small"}


def shared_bytes(server: RunningServer) -> int:
    """Of all memory that Triton shares with its Python models."""
    mapped = {line.split()[-1] for line in Path(f"/proc/{server.process.pid}/maps").read_text().splitlines()}
    return sum(path.stat().st_size for path in map(Path, mapped) if path.is_relative_to("/dev/shm") and path.exists())
