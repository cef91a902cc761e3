"""Request controls and `cascade_stream` on a real Triton: scripted tiers, the real sandbox."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from codecascade_build.server.process import RunningServer
from hypothesis import HealthCheck, given, settings
from tritonclient.grpc import InferenceServerClient as SyncClient
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.server.metrics import eventually, metric
from tests.server.real_server import StartServer
from tests.server.scripted.repository import ScriptedTier, render
from tests.unit.backend.any_request import REQUESTS
from tests.unit.backend.any_request import TYPES as TENSOR_TYPES

pytestmark = pytest.mark.triton

PROMPT = 'def add(a, b):\n    """The sum of a and b."""\n'
TWO = [
    {"tier": "small", "k": 3, "lines_per_sample": 2, "threshold": 1.0},
    {"tier": "large", "k": 3, "lines_per_sample": 2, "threshold": 1.0},
]


def promised(tier: str, accuracy: float, usd_per_1000: float) -> dict[str, Any]:
    figures = {"accuracy": {"mean": accuracy}, "usd_per_1000": {"mean": usd_per_1000}}
    return {"steps": [{"tier": tier, "k": 0}], "held_out": figures}


PLANS = {
    "two": TWO,
    "narrow": [{"tier": "narrow", "k": 0}],
    "only-small": promised("small", 0.6, 0.1),
    "only-large": promised("large", 0.8, 0.5),
}
TYPES: dict[str, Any] = {
    "deadline_ms": np.int32,
    "max_cost": np.float64,
    "min_accuracy": np.float32,
    "value_per_correct": np.float64,
    "priority": np.int32,
    "return_trace": np.bool_,
}


@pytest.fixture(scope="module")
def server(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    tiers = [ScriptedTier("small"), ScriptedTier("large", price_per_mtok=3.0), ScriptedTier("narrow", delay_s=1.5)]
    here = render(tmp_path_factory.mktemp("controls"), tiers, PLANS, default="two", real_sandbox=True, stream=True)
    deployment = json.loads(here.deployment.read_text())
    deployment["tiers"][-1]["max_in_flight"] = 1
    here.deployment.write_text(json.dumps(deployment))
    return start_server(here.repositories, here.deployment)


@pytest_asyncio.fixture
async def client(server: RunningServer) -> AsyncIterator[InferenceServerClient]:
    async with InferenceServerClient(server.grpc) as connected:
        yield connected


def told(*behaviours: str) -> str:
    return "".join(f"# {behaviour}\n" for behaviour in behaviours) + PROMPT


def tensors(prompt: str = PROMPT, **inputs: Any) -> list[InferInput]:
    made = []
    for name, value in {"prompt": prompt, **inputs}.items():
        array = np.array([value.encode()], np.object_) if isinstance(value, str) else np.array([value], TYPES[name])
        made.append(InferInput(name, [1], np_to_triton_dtype(array.dtype)).set_data_from_numpy(array))
    return made


async def ask(client: InferenceServerClient, prompt: str = PROMPT, tritons_id: str = "", **inputs: Any) -> dict[str, Any]:
    """The outputs, the trace read."""
    result = await client.infer("cascade", tensors(prompt, return_trace=True, **inputs), request_id=tritons_id)
    values = {output.name: result.as_numpy(output.name)[0] for output in result.get_response().outputs}
    answer = {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}
    return {**answer, "trace": json.loads(answer["trace"])}


async def refused(client: InferenceServerClient, prompt: str = PROMPT, **inputs: Any) -> tuple[str, str]:
    """The code and the sentence of an error."""
    with pytest.raises(InferenceServerException) as failure:
        await ask(client, prompt, **inputs)
    return failure.value.status(), re.sub(r"^\[request id: \S+\] ", "", failure.value.message().strip())


# Deadlines and ceilings.


async def test_at_the_deadline_the_best_candidate_so_far_is_returned_and_the_work_is_stopped(
    client: InferenceServerClient, server: RunningServer
) -> None:
    stopped = 'scripted_stopped_calls{tier="large"}'
    before = metric(server, stopped)
    answer = await ask(client, told("small: wrong", "large: stall"), deadline_ms=1000)
    assert (answer["tier"], answer["finish_reason"]) == ("small", "deadline")
    assert answer["trace"]["note"] == "deadline exceeded: 1000 ms have passed: the best candidate so far is returned"
    assert answer["cost"] == pytest.approx(answer["trace"]["steps"][0]["cost_usd"])
    assert answer["trace"]["steps"][1]["unknown_calls"] == 2
    await eventually(lambda: metric(server, stopped) == before + 2, within_s=5.0)


async def test_a_deadline_before_the_first_answer_is_an_error_and_is_counted(
    client: InferenceServerClient, server: RunningServer
) -> None:
    code, sentence = await refused(client, told("small: stall"), deadline_ms=100)
    assert (code, sentence) == ("StatusCode.CANCELLED", "deadline exceeded: 100 ms have passed")
    counted = 'codecascade_requests_total{outcome="deadline",plan="two"}'
    await eventually(lambda: metric(server, counted) == 1, within_s=5.0)


async def test_what_a_cancelled_request_had_paid_is_counted(client: InferenceServerClient, server: RunningServer) -> None:
    paid, cancelled = (
        'codecascade_cost_usd_total{outcome="cancelled",tier="small"}',
        'codecascade_requests_total{outcome="cancelled",plan="two"}',
    )
    whole = await ask(client, told("small: wrong"))
    step = whole["trace"]["steps"][0]["cost_usd"]
    before = metric(server, paid)
    request = asyncio.ensure_future(ask(client, told("small: wrong", "large: stall")))
    await asyncio.wait({request}, timeout=1.0)
    request.cancel()
    await eventually(lambda: metric(server, cancelled) == 1, within_s=5.0)
    await eventually(lambda: metric(server, paid) == pytest.approx(before + step), within_s=5.0)


async def settled(server: RunningServer, name: str) -> float:
    """A sum that no longer grows: sums are handed over a few times a second."""
    values = [metric(server, name)]
    for _ in range(6):
        await asyncio.sleep(0.1)
        values.append(metric(server, name))
        values = values if values[-1] == values[0] else values[-1:]
    return values[-1]


async def test_a_ceiling_is_kept_and_the_answer_is_marked(client: InferenceServerClient) -> None:
    """The worst case of large is beyond it."""
    answer = await ask(client, told("small: wrong"), max_cost=0.0012)
    assert (answer["tier"], answer["finish_reason"]) == ("small", "max_cost")
    assert answer["cost"] <= 0.0012
    assert answer["trace"]["note"].startswith("max_cost of 0.0012 USD leaves")


async def test_a_ceiling_that_pays_for_nothing_is_refused_with_the_least_that_would(client: InferenceServerClient) -> None:
    code, sentence = await refused(client, max_cost=1e-9)
    least = re.fullmatch(r"max_cost is 1e-09, must be (0\.\d+) or more for an answer to this request", sentence)
    assert least
    assert code == "StatusCode.INVALID_ARGUMENT"
    assert (await ask(client, max_cost=float(least[1])))["cost"] <= float(least[1])


# Plans by what is promised of them.


@pytest.mark.parametrize(
    ("inputs", "plan"),
    [
        ({"min_accuracy": 0.5}, "only-small"),
        ({"min_accuracy": 0.6}, "only-small"),  # no FP32 number is 0.6
        ({"min_accuracy": 0.61}, "only-large"),
        ({"value_per_correct": 0.001}, "only-small"),
        ({"value_per_correct": 0.003}, "only-large"),
        ({"plan": "only-small"}, "only-small"),
        ({}, "two"),
    ],
)
async def test_a_plan_is_chosen_by_what_the_plan_file_promises(
    client: InferenceServerClient, inputs: dict[str, Any], plan: str
) -> None:
    assert (await ask(client, **inputs))["trace"]["plan"] == plan


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "deadline_ms": ({"deadline_ms": 0}, "deadline_ms is 0, must be 1 to 2147483647"),
    "max_cost": ({"max_cost": -1.0}, "max_cost is -1, must be 0 to 1e+09"),
    "max_cost NaN": ({"max_cost": float("nan")}, "max_cost is nan, must be 0 to 1e+09"),
    "min_accuracy": ({"min_accuracy": 1.5}, "min_accuracy is 1.5, must be 0 to 1"),
    "nothing is as accurate": (
        {"min_accuracy": 0.9},
        "min_accuracy is 0.9, must be 0.8 or less, which the plan file promises of 'only-large', its most accurate plan",
    ),
    "value_per_correct": ({"value_per_correct": -1.0}, "value_per_correct is -1, must be 0 to 1e+09"),
    "two wishes": (
        {"plan": "two", "min_accuracy": 0.5},
        "plan is 'two' and min_accuracy is 0.5, only one of plan, min_accuracy, value_per_correct may be set",
    ),
    "priority": ({"priority": 10}, "priority is 10, must be 0 to 9"),
    "request_id": ({"request_id": "x" * 257}, "request_id has 257 bytes, must have 256 or fewer"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_control_is_refused_with_its_name_its_value_and_what_is_allowed(
    client: InferenceServerClient, case: str
) -> None:
    inputs, sentence = BAD[case]
    assert await refused(client, **inputs) == ("StatusCode.INVALID_ARGUMENT", sentence)


# What a request is called, and what it must not contain.


async def test_a_request_id_is_in_the_trace_and_in_the_log(client: InferenceServerClient, server: RunningServer) -> None:
    assert (await ask(client, tritons_id="tritons"))["trace"]["request_id"] == "tritons"
    assert (await ask(client, tritons_id="tritons", request_id="ours"))["trace"]["request_id"] == "ours"
    await refused(client, told("small: fail", "large: fail"), request_id="failing")
    await eventually(lambda: "request 'failing' ended without an answer" in server.log_text(), within_s=5.0)


def generate(server: RunningServer, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Triton's JSON route."""
    request = urllib.request.Request(f"http://{server.http}/v2/models/cascade/generate", json.dumps(document).encode())
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_an_unknown_field_of_a_json_request_is_refused_by_name(server: RunningServer) -> None:
    code, answer = generate(server, {"prompt": PROMPT, "deadlin_ms": 500})
    assert code == 400
    assert "deadlin_ms is no input, inputs are prompt, entry_point, cursor," in answer["error"]
    assert generate(server, {"id": "mine", "prompt": PROMPT, "deadline_ms": 60_000, "max_cost": 1.0})[0] == 200


async def test_of_requests_that_wait_for_a_tier_the_highest_priority_goes_first(client: InferenceServerClient) -> None:
    ended: list[str] = []

    async def one(name: str, **inputs: Any) -> None:
        await ask(client, plan="narrow", **inputs)
        ended.append(name)

    requests = []
    for name, inputs in (("first", {}), ("low", {"priority": 0}), ("high", {"priority": 9})):
        requests.append(asyncio.ensure_future(one(name, **inputs)))
        await asyncio.wait(requests, timeout=0.3)
    await asyncio.gather(*requests)
    assert ended == ["first", "high", "low"]


@given(sent=REQUESTS)
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_sent_is_answered_or_refused(server: RunningServer, sent: Any) -> None:
    inputs = [InferInput(item.name(), list(item.as_numpy().shape), TENSOR_TYPES[item.name()]) for item in sent.inputs()]
    for made, item in zip(inputs, sent.inputs(), strict=True):
        made.set_data_from_numpy(item.as_numpy())
    code = None
    with SyncClient(server.grpc) as client:
        try:
            client.infer("cascade", inputs)
        except InferenceServerException as error:
            code = error.status()
        assert code in (None, "StatusCode.INVALID_ARGUMENT", "StatusCode.CANCELLED")
        assert client.is_server_ready()


# The stream.


def stream(client: InferenceServerClient, prompt: str = PROMPT, **inputs: Any) -> Any:
    """What tritonclient gives: results and errors, and a way to close the stream."""

    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": "cascade_stream", "inputs": tensors(prompt, **inputs)}

    return client.stream_infer(requests())


async def events(client: InferenceServerClient, prompt: str = PROMPT, **inputs: Any) -> AsyncIterator[dict[str, Any]]:
    async for result, error in stream(client, prompt, **inputs):
        if error:
            raise error
        yield json.loads(result.as_numpy("event")[0])


async def test_a_stream_tells_what_happens_and_ends_with_what_cascade_answers(client: InferenceServerClient) -> None:
    unary = await ask(client, told("small: wrong"))
    streamed = [event async for event in events(client, told("small: wrong"), return_trace=True)]
    assert [(event["event"], event.get("tier")) for event in streamed] == [
        *[("started", "small"), *[("candidate", "small")] * 3, ("evidence", "small"), ("decision", "small")],
        *[("started", "large"), *[("candidate", "large")] * 3, ("evidence", "large"), ("decision", "large")],
        ("final", "large"),
    ]
    final = streamed[-1]
    same = ("completion", "inserted", "finish_reason", "tier", "score", "cost")
    assert {name: final[name] for name in same} == {name: unary[name] for name in same}
    assert final["trace"]["steps"][0]["decision"] == streamed[5]["decision"] == "escalate"


async def test_a_closed_stream_cancels_the_work(client: InferenceServerClient, server: RunningServer) -> None:
    stopped = 'scripted_stopped_calls{tier="small"}'
    before = await settled(server, stopped)
    open_stream = stream(client, told("small: stall"))
    result, _ = await anext(open_stream)
    assert json.loads(result.as_numpy("event")[0]) == {"event": "started", "tier": "small", "answers": 3}
    open_stream.cancel()
    await eventually(lambda: metric(server, stopped) == before + 2, within_s=4.0)


async def test_a_stream_ends_with_the_error_that_cascade_answers(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="no tier answered: tier small: told to fail; tier large: told to fail"):
        async for _ in events(client, told("small: fail", "large: fail")):
            pass
    with pytest.raises(InferenceServerException, match="priority is 10, must be 0 to 9"):
        async for _ in events(client, priority=10):
            pass
