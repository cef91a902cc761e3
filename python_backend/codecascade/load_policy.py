"""Which plan a request gets that names none, by how many requests are under way: under load a cheaper one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadLevel:
    """A plan for times of load. Between `until` and `since` the plan stays as it is: it does not change at every request."""

    plan: str
    since: int
    """Requests under way from which the plan is taken."""
    until: int
    """Requests under way below which it is left again."""

    def __post_init__(self) -> None:
        if not isinstance(self.plan, str) or not self.plan:
            raise ValueError(f"plan of a load level is {self.plan!r}, must be a name of the plan file")
        if not all(isinstance(bound, int) for bound in (self.since, self.until)) or not 0 < self.until < self.since:
            raise ValueError(
                f"load level of plan {self.plan!r} has since {self.since!r} and until {self.until!r}, "
                "must be whole numbers above 0, until below since"
            )


class LoadPolicy:
    """Follows the load. levels: by rising load; none for the plan file's default always."""

    def __init__(self, levels: Sequence[LoadLevel]) -> None:
        self._levels = levels
        self._reached = 0  # levels that are in force; the last one counts
        self.switches = 0
        """How often the plan has changed."""

    def plan(self, requests: int) -> str | None:
        """The plan for a request that names none; None: the plan file's default. requests: under way, this one included."""
        reached = self._reached
        while reached < len(self._levels) and requests >= self._levels[reached].since:
            reached += 1
        while reached and requests < self._levels[reached - 1].until:
            reached -= 1
        self.switches += reached != self._reached
        self._reached = reached
        return self._levels[reached - 1].plan if reached else None


def load_note(plan: str, note: str | None) -> str:
    """The note in the trace of a request that got its plan by load. note: what else there is to say."""
    return "; ".join(filter(None, [f"plan {plan!r} was taken because of load", note]))
