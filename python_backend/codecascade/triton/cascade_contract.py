"""The tensors of `cascade` and `cascade_stream`: what a caller asks for, and what is answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from codecascade.allowance import Deadline
from codecascade.cascade import Answer
from codecascade.deployment import Deployment
from codecascade.errors import InvalidRequest
from codecascade.plans import PlanFile, Wish
from codecascade.requests import completion, infill_of, task_of
from codecascade.tiers.contract import DEFAULT_PRIORITY, MAX_PRIORITY
from codecascade.tiers.live import check_max_tokens
from codecascade.trace import cost_of
from codecascade.triton.arrival import ARRIVED_S
from codecascade.triton.calls.names import CALL
from codecascade.triton.tensors import Inputs, numbers, texts
from codecascade.types import Plan, Task

_MAX_USD = 1e9
_MAX_ID_BYTES = 256
_PARAMETERS = {CALL, "id"}  # the name that a calling server gave the call, and the id of a JSON request


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was read and checked."""

    task: Task
    plan: Plan
    max_tokens: int | None
    seed: int
    deadline: Deadline | None
    max_cost_usd: float | None
    priority: int
    request_id: str
    """The caller's, else Triton's own; empty if neither is set."""
    return_trace: bool
    by_load: bool
    """Whether the load decided on its plan."""


class Received:
    """What came with a request. It does not hold the request itself."""

    def __init__(self, request: Any) -> None:
        self.arrived_s = ARRIVED_S.get()
        self.inputs = Inputs(request)
        self.parameters: dict[str, Any] = json.loads(request.parameters() or "{}")
        self.tritons_id: str = request.request_id()


def read_asked(
    received: Received, known: Sequence[str], plans: PlanFile, deployment: Deployment, by_load: Callable[[], str | None]
) -> Asked:
    """known: the model's inputs. by_load: the plan for a request that wishes for none; None: the default.

    Raises InvalidRequest.
    """
    inputs = received.inputs
    inputs.check_size(deployment.max_request_bytes)
    _check_parameters(received.parameters, known)
    wish = _wish(inputs)
    loaded = by_load() if wish == Wish() else None
    plan = plans.choose(loaded) if loaded in plans.plans else plans.wished(wish)
    max_tokens = inputs.integer("max_tokens", -(2**31), 2**31 - 1, default=None)
    check_max_tokens(max_tokens, plan, deployment)
    deadline_ms = inputs.integer("deadline_ms", 1, 2**31 - 1, default=None)
    return Asked(
        _task(inputs, deployment),
        plan,
        max_tokens,
        seed=inputs.integer("seed", 0, 2**64 - 1, default=0),
        deadline=None if deadline_ms is None else Deadline.after(deadline_ms, received.arrived_s),
        max_cost_usd=inputs.real("max_cost", 0, _MAX_USD, default=None),
        priority=inputs.integer("priority", 0, MAX_PRIORITY, default=DEFAULT_PRIORITY),
        request_id=inputs.optional_text("request_id", _MAX_ID_BYTES) or received.tritons_id,
        return_trace=inputs.flag("return_trace", default=False),
        by_load=plan.name == loaded,
    )


def _check_parameters(parameters: Mapping[str, Any], known: Sequence[str]) -> None:
    """Triton refuses a tensor that the model has no input for. A field of a JSON request (`generate`) it makes a parameter."""
    unknown = parameters.keys() - _PARAMETERS
    if unknown:
        raise InvalidRequest(f"{min(unknown)} is no input, inputs are {', '.join(known)}")


_OF_INFILLS = ("language", "one_line")
_NOT_OF_INFILLS = ("cursor", "cases")


def _task(inputs: Inputs, deployment: Deployment) -> Task:
    suffix = inputs.optional_text("suffix", deployment.max_prompt_bytes, empty=True)
    for name in _OF_INFILLS if suffix is None else _NOT_OF_INFILLS:
        if inputs.has(name):
            what = (
                "is of infills, which have a suffix"
                if suffix is None
                else "is not taken with a suffix, whose start is the cursor"
            )
            raise InvalidRequest(f"{name} {what}")
    return _rest_of(inputs, deployment) if suffix is None else _infill(inputs, deployment, suffix)


def _infill(inputs: Inputs, deployment: Deployment, suffix: str) -> Task:
    """What stands between two texts, of which each may be empty."""
    prefix = inputs.text("prompt", deployment.max_prompt_bytes, empty=True)
    return infill_of(
        prefix,
        suffix,
        inputs.optional_text("language") or "",
        inputs.optional_text("entry_point"),
        deployment.sandbox_modules,
        inputs.texts("tests"),
        one_line=inputs.flag("one_line", default=False),
    )


def _rest_of(inputs: Inputs, deployment: Deployment) -> Task:
    prompt = inputs.text("prompt", deployment.max_prompt_bytes)
    cursor = inputs.integer("cursor", 0, 2**31 - 1, default=None)
    tests, cases = inputs.texts("tests"), inputs.texts("cases")
    return task_of(prompt, inputs.optional_text("entry_point"), cursor, deployment.sandbox_modules, tests, cases)


def _wish(inputs: Inputs) -> Wish:
    """FP32 holds 0.8 as a little more; plan files promise six digits."""
    accuracy = inputs.real("min_accuracy", 0, 1, default=None)
    return Wish(
        inputs.optional_text("plan"),
        None if accuracy is None else round(accuracy, 6),
        inputs.real("value_per_correct", 0, _MAX_USD, default=None),
    )


@dataclass(frozen=True, slots=True)
class Answered:
    """What is answered: a field for each output."""

    completion: str
    inserted: str
    finish_reason: str
    tier: str
    score: float
    cost: float
    trace: dict[str, Any] | None
    """Only if it was asked for."""

    @classmethod
    def of(cls, asked: Asked, answer: Answer) -> Answered:
        trace = {**answer.trace.as_dict(), "seed": asked.seed, "request_id": asked.request_id} if asked.return_trace else None
        return cls(
            completion(asked.task, answer.candidate),
            answer.candidate.inserted,
            answer.finish_reason,
            answer.tier,
            answer.score,
            cost_of(answer.trace.steps).cost_usd,
            trace,
        )

    def tensors(self) -> list[Any]:
        return [
            texts("completion", [self.completion]),
            texts("inserted", [self.inserted]),
            texts("finish_reason", [self.finish_reason]),
            texts("tier", [self.tier]),
            numbers("score", [self.score], np.float32),
            numbers("cost", [self.cost], np.float64),
            texts("trace", ["" if self.trace is None else as_json(self.trace)]),
        ]

    def event(self) -> dict[str, Any]:
        """The last event of a stream."""
        return {"event": "final", **asdict(self)}


def as_json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
