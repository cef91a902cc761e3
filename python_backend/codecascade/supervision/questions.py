"""What the supervisor asks Triton over HTTP: whether it is ready, and of every Python model whether it answers."""

from __future__ import annotations

import contextlib
import json
import math
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codecascade.triton.calls.names import ALIVE

_TYPES = {"TYPE_STRING": "BYTES"}  # the others lose TYPE_


@dataclass(frozen=True, slots=True)
class Question:
    """The cheapest request that Triton hands to a model: its obligatory inputs, empty."""

    model: str
    body: bytes


class Triton:
    """A server's HTTP. address: host:port."""

    def __init__(self, address: str) -> None:
        self._url = f"http://{address}"

    def questions(self, timeout_s: float) -> list[Question] | None:
        """One for every Python model that answers once for each request; None while the server is not ready."""
        try:
            self._answer("/v2/health/ready", timeout_s)
            names = [model["name"] for model in json.loads(self._answer("/v2/repository/index", timeout_s, b"{}"))]
            configs = [json.loads(self._answer(f"/v2/models/{name}/config", timeout_s)) for name in names]
        except OSError:
            return None
        return [question(config) for config in configs if config["backend"] == "python" and not _is_decoupled(config)]

    def ask(self, question: Question, timeout_s: float) -> str | None:
        """None, or why the model is not well."""
        try:
            self._answer(f"/v2/models/{question.model}/infer", timeout_s, question.body)
        except urllib.error.HTTPError as error:
            sentence = _sentence(error)
            return sentence if sentence.startswith("Stub process") else None  # Triton's sentence; any other is an answer
        except OSError as error:
            return f"no answer within {timeout_s:g} s" if isinstance(error, TimeoutError) else str(error)
        return None

    def _answer(self, path: str, timeout_s: float, body: bytes | None = None) -> bytes:
        with urllib.request.urlopen(f"{self._url}{path}", data=body, timeout=timeout_s) as answer:
            return bytes(answer.read())


def question(config: dict[str, Any]) -> Question:
    """config: a model's configuration, as Triton's HTTP gives it."""
    batch = [1] if config["max_batch_size"] else []
    inputs = [_empty(tensor, batch) for tensor in config["input"] if not tensor.get("optional")]
    return Question(config["name"], json.dumps({"inputs": inputs, "parameters": {ALIVE: True}}).encode())


def _sentence(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(text)["error"])
    return text


def _empty(tensor: dict[str, Any], batch: Sequence[int]) -> dict[str, Any]:
    shape = [*batch, *(max(1, int(size)) for size in tensor["dims"])]
    kind = tensor["data_type"]
    data = ["" if kind == "TYPE_STRING" else 0] * math.prod(shape)
    return {"name": tensor["name"], "shape": shape, "datatype": _TYPES.get(kind, kind.removeprefix("TYPE_")), "data": data}


def _is_decoupled(config: dict[str, Any]) -> bool:
    """Triton's HTTP refuses to ask such a model; the supervisor watches its process alone."""
    return bool(config.get("model_transaction_policy", {}).get("decoupled"))
