"""A gRPC server that speaks Triton's protocol and answers for the model `cascade` as it is told. For tests of the client."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor

_DTYPES = {"UINT64": np.uint64, "INT32": np.int32, "BOOL": np.bool_}


@dataclass(frozen=True)
class Answer:
    completion: str = "def f():\n    return 1\n"
    tier: str = "small"
    score: float = 0.5
    cost: float = 2.5e-6
    trace: dict[str, Any] | None = None
    inserted: str = "    return 1\n"
    finish_reason: str = "stop"


@dataclass(frozen=True)
class Failure:
    code: grpc.StatusCode
    sentence: str


Answering = Callable[[dict[str, Any]], Answer | Failure]


@dataclass
class FakeCascade(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """answering: decoded inputs by name → what to answer. requests: the inputs of every request so far."""

    answering: Answering
    requests: list[dict[str, Any]] = field(default_factory=list)
    metadata: list[tuple[str, str]] = field(default_factory=list)  # of all requests
    cancelled: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    def ModelInfer(self, request: Any, context: Any) -> Any:
        context.add_callback(lambda: None if context.code() else self.cancelled.set())
        self.metadata += [(item.key, item.value) for item in context.invocation_metadata()]
        inputs = {
            tensor.name: _texts(raw) if tensor.name in ("tests", "cases") else _value(tensor.datatype, raw)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        self.requests.append(inputs)
        answer = self.answering(inputs)
        if isinstance(answer, Failure):
            return context.abort(answer.code, answer.sentence)
        return _response(answer)

    def ServerLive(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerReadyResponse(ready=True)

    def RepositoryIndex(self, request: Any, context: Any) -> Any:
        models = (("cascade", "READY"), ("small", "UNAVAILABLE"))
        index = service_pb2.RepositoryIndexResponse
        return index(models=[index.ModelIndex(name=name, state=state) for name, state in models])


@contextmanager
def serving(answering: Answering, credentials: grpc.ServerCredentials | None = None) -> Iterator[FakeCascade]:
    fake = FakeCascade(answering)
    server = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(fake, server)
    port = server.add_secure_port("127.0.0.1:0", credentials) if credentials else server.add_insecure_port("127.0.0.1:0")
    fake.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield fake
    finally:
        server.stop(grace=None).wait()


def trace(*steps: dict[str, Any], note: str | None = None) -> dict[str, Any]:
    """A trace as the server writes it. steps: what differs from a step that accepts."""
    whole = [{**_STEP, **step} for step in steps]
    return {
        "plan": "balanced",
        "entry_point": "f",
        "tested": "f",
        "seed": 0,
        "answered_by": whole[-1]["tier"],
        "note": note,
        "steps": whole,
        "wall_ms": 1234.5,
        "cost": {
            "cost_usd": sum(step["cost_usd"] for step in whole),
            "prompt_tokens": {step["tier"]: step["prompt_tokens"] for step in whole},
            "completion_tokens": {step["tier"]: step["completion_tokens"] for step in whole},
            "sandbox_s": 0.01,
        },
    }


_STEP: dict[str, Any] = {
    "tier": "small",
    "k": 3,
    "solutions": 3,
    "n_given_tests": 0,
    "n_test_lines": 6,
    "score": 1.0,
    "log_prob": None,
    "threshold": 0.7,
    "decision": "accept",
    "reason": "score 1.000 ≥ threshold 0.7",
    "finish_reason": "stop",
    "problem": None,
    "prompt_tokens": 100,
    "completion_tokens": 250,
    "cost_usd": 2.5e-6,
    "sandbox_s": 0.01,
    "generate_ms": 1000.0,
    "sandbox_ms": 200.0,
    "wall_ms": 1200.0,
}


def _texts(raw: bytes) -> list[str]:
    return [text.decode() for text in deserialize_bytes_tensor(raw)]


def _value(datatype: str, raw: bytes) -> Any:
    if datatype == "BYTES":
        (text,) = _texts(raw)
        return text
    (value,) = np.frombuffer(raw, _DTYPES[datatype])
    return value.item()


def _response(answer: Answer) -> Any:
    response = service_pb2.ModelInferResponse(model_name="cascade")
    texts = {
        "completion": answer.completion,
        "inserted": answer.inserted,
        "finish_reason": answer.finish_reason,
        "tier": answer.tier,
        "trace": json.dumps(answer.trace) if answer.trace else "",
    }
    for name, text in texts.items():
        raw = text.encode()
        _output(response, name, "BYTES", len(raw).to_bytes(4, "little") + raw)
    _output(response, "score", "FP32", np.float32(answer.score).tobytes())
    _output(response, "cost", "FP64", np.float64(answer.cost).tobytes())
    return response


def _output(response: Any, name: str, datatype: str, raw: bytes) -> None:
    response.outputs.add(name=name, datatype=datatype, shape=[1])
    response.raw_output_contents.append(raw)
