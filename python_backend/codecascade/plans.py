"""Plan files: searched or hand-written plans, deployed as data (`plans/<family>.json`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecascade.types import CascadeError, InvalidRequest, Plan, TierPlan

FORMAT = 1


class PlanFileError(CascadeError):
    """A plan file that cannot be used, with its path and what is wrong."""


@dataclass(frozen=True, slots=True)
class PlanFile:
    family: str
    provenance: Mapping[str, Any]
    default: str
    plans: Mapping[str, Plan]

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


class PlanStore:
    """The plans in force: read again when the file changes, so that a new plan needs no restart.

    `problem` is why the newest file is not in force (the plans before it still are), or None.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = self._stat()
        self._plans = load_plans(path)
        self.problem: str | None = None

    def current(self) -> PlanFile:
        version = self._stat()
        if version != self._version:
            self._version = version
            try:
                self._plans, self.problem = load_plans(self._path), None
            except PlanFileError as error:
                self.problem = str(error)
        return self._plans

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _parse(data: Any) -> PlanFile:
    if data["format"] != FORMAT:
        raise ValueError(f"format is {data['format']!r}, this version reads format {FORMAT}")
    plans = {name: Plan(name, tuple(TierPlan(**step) for step in plan["steps"])) for name, plan in data["plans"].items()}
    if not isinstance(data["family"], str):
        raise ValueError(f"family is {data['family']!r}, allowed is a name")
    if data["default"] not in plans:
        raise ValueError(f"default is {data['default']!r}, which is not among the plans {', '.join(sorted(plans))}")
    return PlanFile(data["family"], data["provenance"], data["default"], plans)
