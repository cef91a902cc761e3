"""What happens to a request while it is worked on, in order: what a stream of events, the metrics and tests are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from codecascade.trace import StepTrace


@dataclass(frozen=True, slots=True)
class Started:
    """A tier is asked."""

    event: ClassVar[str] = "started"
    tier: str
    answers: int
    """How many it may be asked for."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A tier has answered."""

    event: ClassVar[str] = "candidate"
    tier: str
    number: int
    """Of its answers, from 0."""
    inserted: str
    finish_reason: str
    problem: str | None
    """Why it cannot run here, in words."""
    log_prob: float | None


@dataclass(frozen=True, slots=True)
class Judged:
    """The sandbox has judged a tier's answers."""

    event: ClassVar[str] = "evidence"
    tier: str
    tests: int
    """0: there was nothing to judge by."""
    best: int
    """The number of the best answer so far."""
    score: float
    """Its score, 0…1."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A tier is left, or its answer is accepted."""

    event: ClassVar[str] = "decision"
    step: StepTrace


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The request ends without an answer: by an error, or because nobody waits any more."""

    event: ClassVar[str] = "abandoned"
    steps: tuple[StepTrace, ...]
    """What was paid for: the steps that ended, and the one under way."""
    error: BaseException


Event = Started | Drawn | Judged | Decided | Abandoned
Tell = Callable[[Event], None]


def nobody(event: Event) -> None:
    """Tells nobody."""


def as_dict(event: Event) -> dict[str, Any]:
    """An event for JSON. A decision has the fields of its step's trace."""
    fields = asdict(event.step) if isinstance(event, Decided) else asdict(event)
    return {"event": event.event, **fields}
