"""A completion request as Triton's protocol has it: a prompt and what the caller said beside it → a ModelInferRequest."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from grpc import StatusCode  # type: ignore[import-untyped]
from tritonclient.grpc import service_pb2
from typing_extensions import TypedDict

from codecascade_client.errors import RequestFailed


class Options(TypedDict, total=False):
    """What a request may say beside its prompt. What is absent or None is not sent."""

    entry_point: str | None
    """The function under test, a method as Stack.push; default: the one that is being written."""
    cursor: int | None
    """The byte of the prompt where the code is to go on; default: where it is incomplete, or its end."""
    tests: Sequence[str]
    """Asserts or test programs that the answer has to pass."""
    cases: Sequence[Mapping[str, str]]
    """What a program reads from standard input and has to print, each as {"input": "3 4\\n", "output": "7"}."""
    plan: str | None
    """A plan's name; default: the server's default plan."""
    max_tokens: int | None
    """Limit of one solution; default: the tier's own limit."""
    seed: int | None
    """The same request with the same seed gets the same answer; default 0."""
    return_trace: bool | None
    """Whether the answer has its trace."""
    deadline_ms: int | None
    """Milliseconds after which the best answer so far is given."""
    max_cost: float | None
    """US dollars that the request never spends more than."""
    min_accuracy: float | None
    """Choose the cheapest plan that promises this share of right answers, 0…1."""
    value_per_correct: float | None
    """Choose the plan that is worth most where a right answer is worth this many US dollars."""
    priority: int | None
    """0 to 9, higher first; default 5."""
    request_id: str | None
    """Stands in the trace and in the server's logs."""
    suffix: str | None
    """What follows the code that is asked for, or nothing: then just what stands between the two is written."""
    language: str | None
    """What prompt and suffix are written in, as an editor names it; default: as they look."""
    one_line: bool | None
    """Whether the code before the suffix ends with its line."""


_DATATYPES: Mapping[str, str] = {
    "entry_point": "BYTES",
    "cursor": "INT32",
    "tests": "BYTES",
    "cases": "BYTES",
    "plan": "BYTES",
    "max_tokens": "INT32",
    "seed": "UINT64",
    "return_trace": "BOOL",
    "deadline_ms": "INT32",
    "max_cost": "FP64",
    "min_accuracy": "FP32",
    "value_per_correct": "FP64",
    "priority": "INT32",
    "request_id": "BYTES",
    "suffix": "BYTES",
    "language": "BYTES",
    "one_line": "BOOL",
}
# How struct writes a number, and what the datatype can hold.
_NUMBERS: Mapping[str, tuple[str, str]] = {
    "BOOL": ("<?", "true or false"),
    "INT32": ("<i", f"an integer from {-(2**31)} to {2**31 - 1}"),
    "UINT64": ("<Q", f"an integer from 0 to {2**64 - 1}"),
    "FP32": ("<f", "a number"),
    "FP64": ("<d", "a number"),
}


def infer_request(model: str, prompt: str, options: Mapping[str, Any]) -> service_pb2.ModelInferRequest:
    """Raises RequestFailed for a value that its tensor cannot hold, TypeError for an option that there is none of."""
    unknown = options.keys() - _DATATYPES.keys()
    if unknown:
        raise TypeError(f"option {min(unknown)!r} is unknown, must be one of {', '.join(_DATATYPES)}")
    request = service_pb2.ModelInferRequest(model_name=model)
    _add_texts(request, "prompt", [prompt])
    for name, value in options.items():
        if name in ("tests", "cases"):
            texts = value if name == "tests" else [json.dumps(case) for case in value]
            if texts:
                _add_texts(request, name, texts)
        elif value is not None:
            _add(request, name, value)
    return request


def _add(request: service_pb2.ModelInferRequest, name: str, value: Any) -> None:
    datatype = _DATATYPES[name]
    if datatype == "BYTES":
        return _add_texts(request, name, [value])
    form, allowed = _NUMBERS[datatype]
    try:
        raw = struct.pack(form, value)
    except (struct.error, OverflowError):
        raise _refused(f"{name} is {value!r}, must be {allowed}") from None
    return _add_tensor(request, name, datatype, 1, raw)


def _add_texts(request: service_pb2.ModelInferRequest, name: str, texts: Sequence[str]) -> None:
    raw = b"".join(_lengths_and_texts(name, texts))
    _add_tensor(request, name, "BYTES", len(texts), raw)


def _lengths_and_texts(name: str, texts: Sequence[str]) -> Iterable[bytes]:
    for number, text in enumerate(texts):
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            which = f"{name}[{number}]" if name == "tests" else name
            raise _refused(f"{which} has half a surrogate pair at character {error.start}, must be valid Unicode") from None
        yield struct.pack("<I", len(data))
        yield data


def _add_tensor(request: service_pb2.ModelInferRequest, name: str, datatype: str, length: int, raw: bytes) -> None:
    request.inputs.add(name=name, datatype=datatype, shape=[length])
    request.raw_input_contents.append(raw)


def _refused(sentence: str) -> RequestFailed:
    return RequestFailed(StatusCode.INVALID_ARGUMENT, sentence)
