"""A gRPC server that meets the tier contract with scripted answers, without Triton: endpoints that come and go."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

PROMPT_TOKENS = 11


@dataclass
class ScriptedTier(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Sequence j of a call answers `body(seed, j)`; `refusals` are given first, one a call."""

    refusals: list[tuple[grpc.StatusCode, str]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    line_tokens: list[int] = field(default_factory=list)  # instead of the right ones
    finish_reason: str = "stop"  # of every sequence
    address: str = ""

    async def ModelInfer(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        inputs = _inputs(request)
        self.asked.append({"model": request.model_name, **inputs})
        if self.refusals:
            await context.abort(*self.refusals.pop(0))
        count = int(inputs["num_return_sequences"])
        texts = ["\n".join(self.text(inputs, sequence).split("\n")[: inputs.get("max_lines")]) for sequence in range(count)]
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        _add(response, "text_output", "BYTES", serialize_byte_tensor(np.array([t.encode() for t in texts], object)).item(), count)
        _add(response, "completion_tokens", "INT32", np.array([len(t.split()) for t in texts], np.int32).tobytes(), count)
        line_tokens = self.line_tokens or [tokens for text in texts for tokens in _line_tokens(text)]
        _add(response, "line_tokens", "INT32", np.array(line_tokens, np.int32).tobytes(), len(line_tokens))
        _add(response, "prompt_tokens", "INT32", np.array([PROMPT_TOKENS], np.int32).tobytes(), 1)
        reasons = np.array([self.finish_reason.encode()] * count, object)
        _add(response, "finish_reason", "BYTES", serialize_byte_tensor(reasons).item(), count)
        _add(response, "stop_word", "BYTES", serialize_byte_tensor(np.array([b""] * count, object)).item(), count)
        return response

    def text(self, inputs: dict[str, Any], sequence: int) -> str:
        """A right body, or for a test prompt (style base) two asserts, one of them wrong in odd sequences."""
        if inputs["text_input"].endswith("assert "):
            name = inputs["text_input"].rpartition("correctness of ")[2].split("\n")[0]
            return f"{name}(1, 2) == {3 + sequence % 2}\nassert {name}(2, 2) == 4"
        return f"    # seed {inputs['seed']}, sequence {sequence}\n    return a + b"


@asynccontextmanager
async def serving(
    tier: ScriptedTier, address: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[grpc.aio.Server]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(tier, server)
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    tier.address = f"127.0.0.1:{port}"
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0)


def _line_tokens(text: str) -> Iterator[int]:
    """Words are tokens."""
    return itertools.accumulate(len(line.split()) for line in text.split("\n"))


def _inputs(request: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    kinds = {"INT32": np.int32, "UINT64": np.uint64, "FP32": np.float32}
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        if tensor.datatype == "BYTES":
            texts = tuple(text.decode() for text in deserialize_bytes_tensor(raw))
            values[tensor.name] = texts if tensor.name == "stop_words" else texts[0]
        else:
            values[tensor.name] = np.frombuffer(raw, kinds[tensor.datatype])[0].item()
    return values


def _add(response: Any, name: str, datatype: str, raw: bytes, count: int) -> None:
    response.outputs.add(name=name, datatype=datatype, shape=[count])
    response.raw_output_contents.append(raw)
