"""Plan files: searched or hand-written plans, deployed as data (`plans/<family>.json`)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecascade.errors import InvalidRequest, PlanFileError
from codecascade.types import GivenStep, Plan, PlanStep

FORMAT = 1
LOOK_S = 1.0
_OLD_NAMES = {"test_lines": "lines_per_sample"}  # of a step, in files written before version 0.2


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


def load_plans(path: Path) -> PlanFile:
    """Read and check a plan file. Raises PlanFileError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
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

    A changed file that cannot be used leaves the earlier plans in force; `report` is told why, once. clock: seconds.
    """

    def __init__(self, path: Path, report: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._report = report
        self._clock = clock
        self._looked = clock()
        self._version = self._stat()
        self._plans = load_plans(path)

    def current(self) -> PlanFile:
        now = self._clock()
        if now - self._looked < LOOK_S:  # a look costs as much as the rest of the cascade's own work
            return self._plans
        self._looked = now
        version = self._stat()
        if version != self._version:
            self._version = version
            try:
                self._plans = load_plans(self._path)
            except PlanFileError as error:
                self._report(f"{error}; the earlier plans stay in force")
        return self._plans

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
    return Plan(name, tuple(_step(step) for step in entry["steps"]), given)


def _parse(data: Any) -> PlanFile:
    if data["format"] != FORMAT:
        raise ValueError(f"format is {data['format']!r}, this version reads format {FORMAT}")
    plans = {name: _plan(name, plan) for name, plan in data["plans"].items()}
    if not isinstance(data["family"], str):
        raise ValueError(f"family is {data['family']!r}, must be a name")
    if data["default"] not in plans:
        raise ValueError(f"default is {data['default']!r}, must be one of the plans {', '.join(sorted(plans))}")
    promises = {name: plan for name, plan in data["plans"].items() if "held_out" in plan}
    return PlanFile(data["family"], data["provenance"], data["default"], plans, promises)
