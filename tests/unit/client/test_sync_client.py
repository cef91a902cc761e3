"""CascadeClient, without asyncio, does what AsyncCascadeClient does."""

from __future__ import annotations

import inspect
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from codecascade import errors
from codecascade_build.paths import ROOT
from codecascade_client.answers import Completion
from codecascade_client.attempts import Retries
from codecascade_client.client import AsyncCascadeClient, CascadeClient
from codecascade_client.errors import Overloaded, RequestFailed
from codecascade_client.request import Options, infer_request
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tests.unit.client.fake_cascade import Answer, Failure, serving, trace

OVERLOADED = Failure(grpc.StatusCode.UNAVAILABLE, str(errors.Overloaded("4 requests wait", 0.0)))


def test_both_clients_have_the_same_calls() -> None:
    for name in ("complete", "stream", "plans", "health"):
        one, other = (inspect.signature(getattr(kind, name)).parameters for kind in (AsyncCascadeClient, CascadeClient))
        assert one == other


def test_completes_and_reads_the_trace() -> None:
    with serving(lambda _: Answer(trace=trace({}))) as server, CascadeClient(server.address) as client:
        done = client.complete(
            "def f():\n", seed=7, return_trace=True, tests=["assert f()"], cases=[{"input": "", "output": "1"}]
        )
    assert done == Completion("def f():\n    return 1\n", "small", 0.5, 2.5e-6, trace({}), "    return 1\n")
    (sent,) = server.requests
    assert sent == {
        "prompt": "def f():\n",
        "seed": 7,
        "return_trace": True,
        "tests": ["assert f()"],
        "cases": ['{"input": "", "output": "1"}'],
    }


def test_an_overload_is_waited_out() -> None:
    answers: list[Answer | Failure] = [OVERLOADED, OVERLOADED, Answer()]
    with serving(lambda _: answers.pop(0)) as server, CascadeClient(server.address) as client:
        assert client.complete("x =").tier == "small"
    assert len(server.requests) == 3


async def test_so_does_the_asynchronous_client() -> None:
    answers: list[Answer | Failure] = [OVERLOADED, Answer()]
    with serving(lambda _: answers.pop(0)) as server:
        async with AsyncCascadeClient(server.address) as client:
            assert (await client.complete("x =")).tier == "small"
    assert len(server.requests) == 2


def test_an_overload_that_lasts_is_the_callers() -> None:
    with (
        serving(lambda _: OVERLOADED) as server,
        CascadeClient(server.address, retries=Retries(attempts=2)) as client,
        pytest.raises(Overloaded, match="4 requests wait"),
    ):
        client.complete("x =")
    assert len(server.requests) == 2


def test_a_failure_that_may_have_cost_something_is_told_at_once() -> None:
    with (
        serving(lambda _: Failure(grpc.StatusCode.UNAVAILABLE, "no tier answered")) as server,
        CascadeClient(server.address) as client,
        pytest.raises(RequestFailed, match="no tier answered"),
    ):
        client.complete("x =")
    assert len(server.requests) == 1


def test_every_input_of_the_model_is_an_option_of_its_type() -> None:
    config = text_format.Parse((ROOT / "model_repository/cascade/config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    inputs = {tensor.name: model_config_pb2.DataType.Name(tensor.data_type).replace("TYPE_", "") for tensor in config.input}
    values: dict[str, Any] = {"tests": ["x"], "cases": [{}]} | {
        name: "x" if datatype == "STRING" else 1 for name, datatype in inputs.items() if name not in ("tests", "cases", "prompt")
    }
    sent = {tensor.name: tensor.datatype.replace("BYTES", "STRING") for tensor in infer_request("cascade", "x", values).inputs}
    assert sent == inputs
    assert set(inputs) - {"prompt"} <= set(Options.__annotations__)


def test_an_option_that_there_is_none_of_is_refused() -> None:
    with (
        serving(lambda _: Answer()) as server,
        CascadeClient(server.address) as client,
        pytest.raises(TypeError, match="option 'temprature' is unknown, must be one of entry_point, "),
    ):
        client.complete("x =", temprature=1)  # type: ignore[call-arg]
