"""Plan files: searched or hand-written plans, deployed as data (`plans/<family>.json`)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from codecascade.errors import InvalidRequest, PlanFileError
from codecascade.types import GivenStep, Plan, PlanStep

FORMAT = 1
LOOK_S = 1.0
_OLD_NAMES = {"test_lines": "lines_per_sample"}  # of a step, in files written before version 0.2


@dataclass(frozen=True, slots=True)
class Wish:
    """How a caller chooses a plan: by one of these. None at all: the default plan. Raises InvalidRequest for two."""

    plan: str | None = None
    min_accuracy: float | None = None
    """0…1: the cheapest plan that is promised to be as accurate."""
    value_per_correct: float | None = None
    """US dollars: the plan whose right answers are worth most, less what it costs."""

    def __post_init__(self) -> None:
        wished = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen = [f"{name} is {value!r}" for name, value in wished.items() if value is not None]
        if len(chosen) > 1:
            raise InvalidRequest(f"{' and '.join(chosen)}, only one of {', '.join(wished)} may be set")


@dataclass(frozen=True, slots=True)
class _Promised:
    """What to expect of a plan on tasks that it was not chosen on: the means of `held_out`."""

    accuracy: float
    cost_usd: float
    """Of a request."""

    @classmethod
    def of(cls, promise: Mapping[str, Any]) -> _Promised | None:
        """None if one of the figures is missing. Raises ValueError, KeyError or TypeError."""
        held_out = promise["held_out"]
        if not held_out.keys() >= {"accuracy", "usd_per_1000"}:
            return None
        accuracy, cost = held_out["accuracy"]["mean"], held_out["usd_per_1000"]["mean"]
        if not 0 <= accuracy <= 1 or not 0 <= cost < math.inf:
            raise ValueError(f"held_out has accuracy {accuracy!r} and usd_per_1000 {cost!r}, must be 0 to 1 and 0 or more")
        return cls(accuracy, cost / 1000)


@dataclass(frozen=True, slots=True)
class PlanFile:
    """What a plan file holds."""

    family: str
    provenance: Mapping[str, Any]
    default: str
    plans: Mapping[str, Plan]
    promises: Mapping[str, Mapping[str, Any]]
    """By plan: what the search found out about it. A plan written by hand promises nothing."""

    def promise(self, plan: str, dataset: str) -> Mapping[str, Any] | None:
        """A plan's figures on the held-out tasks of a dataset, if the search tells them apart; else on all."""
        promised = self.promises.get(plan, {})
        figures: Mapping[str, Any] | None = promised.get("by_dataset", {}).get(dataset, promised.get("held_out"))
        return figures

    def choose(self, name: str | None) -> Plan:
        """The named plan, or the default one. Raises InvalidRequest naming the plans there are."""
        plan = self.plans.get(name or self.default)
        if plan is None:
            raise InvalidRequest(f"plan {name!r} is unknown, allowed are {', '.join(sorted(self.plans))}")
        return plan

    def wished(self, wish: Wish) -> Plan:
        """The plan that a caller wishes. Raises InvalidRequest, which says what there is."""
        if wish.min_accuracy is not None:
            return self.plans[self._cheapest(wish.min_accuracy)]
        if wish.value_per_correct is not None:
            value = wish.value_per_correct
            promised = self._promised("value_per_correct", value)
            return self.plans[max(promised, key=lambda name: value * promised[name].accuracy - promised[name].cost_usd)]
        return self.choose(wish.plan)

    def _cheapest(self, min_accuracy: float) -> str:
        """The cheapest of the plans that are as accurate."""
        promised = self._promised("min_accuracy", min_accuracy)
        accurate = [name for name in promised if promised[name].accuracy >= min_accuracy]
        if not accurate:
            best = max(promised, key=lambda name: promised[name].accuracy)
            raise InvalidRequest(
                f"min_accuracy is {min_accuracy:g}, must be {promised[best].accuracy:g} or less, "
                f"which the plan file promises of {best!r}, its most accurate plan"
            )
        return min(accurate, key=lambda name: promised[name].cost_usd)

    def _promised(self, wished: str, value: float) -> dict[str, _Promised]:
        """What to expect of each plan of which something is promised."""
        promised = {name: _Promised.of(promise) for name, promise in self.promises.items()}
        known = {name: figures for name, figures in promised.items() if figures}
        if not known:
            raise InvalidRequest(
                f"{wished} is {value:g}, but the plan file of family {self.family!r} promises nothing about its plans, "
                f"plan must be one of {', '.join(sorted(self.plans))}"
            )
        return known


def load_plans(path: Path) -> PlanFile:
    """Read and check a plan file. Raises PlanFileError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PlanFileError(f"plan file {path} cannot be read: {error}") from error
    try:
        return _parse(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise PlanFileError(f"plan file {path} is not valid: {what}") from error


def step_entry(step: PlanStep, *, last: bool) -> dict[str, Any]:
    """A step as a plan file has it. The last step has no threshold: it always accepts."""
    lines = {"lines_per_sample": step.lines_per_sample} if step.k else {}
    threshold = {"threshold": step.threshold} if step.k else {}
    by_log_prob = {"accept_log_prob": step.accept_log_prob, "leave_log_prob": step.leave_log_prob}
    limits = {**threshold, **{name: value for name, value in by_log_prob.items() if value is not None}}
    return {"tier": step.tier, "k": step.k, **lines, **({} if last else limits)}


class PlanStore:
    """The plans in force. A changed file is read within a second, so a new plan needs no restart.

    A file that cannot be used, or that `check` refuses with an InvalidRequest, raises PlanFileError at first. A changed one
    leaves the earlier plans in force; `report` is told why, once. clock: seconds.
    """

    def __init__(
        self,
        path: Path,
        report: Callable[[str], None],
        check: Callable[[PlanFile], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._report = report
        self._check = check
        self._clock = clock
        self._looked = clock()
        self._version = self._stat()
        self._plans = self._load()

    def current(self) -> PlanFile:
        now = self._clock()
        if now - self._looked < LOOK_S:  # a look costs as much as the rest of the cascade's own work
            return self._plans
        self._looked = now
        version = self._stat()
        if version != self._version:
            self._version = version
            try:
                self._plans = self._load()
            except PlanFileError as error:
                self._report(f"{error}; the earlier plans stay in force")
        return self._plans

    def _load(self) -> PlanFile:
        plans = load_plans(self._path)
        try:
            self._check(plans)
        except InvalidRequest as error:
            raise PlanFileError(f"plan file {self._path} does not fit the deployment: {error}") from error
        return plans

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _step(entry: Mapping[str, Any]) -> PlanStep:
    return PlanStep(**{_OLD_NAMES.get(name, name): value for name, value in entry.items()})


def _plan(name: str, entry: Mapping[str, Any]) -> Plan:
    given = tuple(GivenStep(**step) for step in entry.get("given_tests", ()))
    infill = tuple(PlanStep(**{"k": 0, **step}) for step in entry.get("infill", ()))
    return Plan(name, tuple(_step(step) for step in entry["steps"]), given, infill)


def _parse(data: Any) -> PlanFile:
    if data["format"] != FORMAT:
        raise ValueError(f"format is {data['format']!r}, this version reads format {FORMAT}")
    plans = {name: _plan(name, plan) for name, plan in data["plans"].items()}
    if not isinstance(data["family"], str):
        raise ValueError(f"family is {data['family']!r}, must be a name")
    if data["default"] not in plans:
        raise ValueError(f"default is {data['default']!r}, must be one of the plans {', '.join(sorted(plans))}")
    promises = {name: plan for name, plan in data["plans"].items() if "held_out" in plan}
    for promise in promises.values():
        _Promised.of(promise)
    return PlanFile(data["family"], data["provenance"], data["default"], plans, promises)
