"""The nouns of the cascade: frozen values, checked once, when they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Verdict(IntEnum):
    """What happened when a candidate and one test line ran together."""

    PASS = 0
    FAIL = 1  # the assertion did not hold
    ERROR = 2  # anything else raised, died or was tampered with
    TIMEOUT = 3


class Decision(str, Enum):
    ACCEPT = "accept"
    ESCALATE = "escalate"


@dataclass(frozen=True, slots=True)
class Task:
    """What to complete. `entry_point` is the function the tests call; None: nothing to test."""

    prompt: str
    entry_point: str | None = None


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One step of a plan.

    k solutions and k test samples are drawn, `lines_per_sample` asserts are kept of each test sample, and the best
    solution is accepted when its normalised score reaches `threshold` (0…1). k = 0: one greedy solution, no tests.
    """

    tier: str
    k: int
    lines_per_sample: int = 0
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.tier, str) or not self.tier:
            raise ValueError(f"a step names the tier {self.tier!r}, allowed is a model's name")
        lines = (1, 100) if self.k else (0, 0)  # k = 0 has no tests
        for name, value, kind, (low, high) in (
            ("k", self.k, int, (0, 100)),
            ("lines_per_sample", self.lines_per_sample, int, lines),
            ("threshold", self.threshold, (int, float), (0, 1)),
        ):
            if not isinstance(value, kind) or not low <= value <= high:
                raise ValueError(f"{name} of tier {self.tier!r} is {value!r}, allowed are {low} to {high}")

    @property
    def greedy(self) -> bool:
        """k = 0 and k = 1 are greedy; more solutions are sampled (paper, section on the grid)."""
        return self.k <= 1


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered steps, small tier to large. The last step always accepts."""

    name: str
    steps: tuple[PlanStep, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError(f"plan {self.name!r} has no steps")
        tiers = [step.tier for step in self.steps]
        if len(set(tiers)) < len(tiers):
            raise ValueError(f"plan {self.name!r} names a tier twice: {', '.join(tiers)}")
        if any(step.k == 0 for step in self.steps[:-1]):
            raise ValueError(f"plan {self.name!r} has a step with k = 0 before its last one: it could never be left")


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion as a tier gave it.

    line_tokens: for every line of the text, what the sample would have cost had it been asked for no more lines; empty where the
    runtime cannot end a sample at a line: it costs the whole sample then.
    """

    text: str
    completion_tokens: int
    finish_reason: str = "stop"  # stop | length | cancelled
    line_tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """Runnable code: a whole program that defines the task's function."""

    source: str


@dataclass(frozen=True, slots=True)
class TestLine:
    """One single-line assert statement."""

    __test__ = False  # not a pytest class
    source: str


@dataclass(frozen=True, slots=True)
class TierSamples:
    """What one tier answered for one step: k candidates (1 if k = 0) and the pooled test lines."""

    candidates: tuple[Candidate, ...]
    test_lines: tuple[TestLine, ...]
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class VerdictMatrix:
    """verdicts: (candidates, lines) int8 of Verdict. cpu_s: (candidates,) CPU seconds each candidate's child took.

    modes: for each line, how it was judged (blind, tick or invalid). endings: for each candidate, why its child ended.
    A sandbox that cannot say leaves them empty.
    """

    verdicts: NDArray[np.int8]
    cpu_s: NDArray[np.float64]
    modes: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.verdicts.ndim != 2 or self.cpu_s.shape != self.verdicts.shape[:1]:
            raise ValueError(f"verdicts {self.verdicts.shape} and cpu_s {self.cpu_s.shape} do not belong together")

    @property
    def passed(self) -> NDArray[np.bool_]:
        """(candidates, lines) bool."""
        return np.equal(self.verdicts, Verdict.PASS)


@dataclass(frozen=True, slots=True)
class Score:
    """best: index of the candidate to return; agreement: its n_s · n_t; pairs: candidates × lines, 0 if nothing was tested."""

    best: int
    agreement: int
    pairs: int

    @property
    def value(self) -> float:
        """Agreement normalised to 0…1."""
        return self.agreement / self.pairs if self.pairs else 0.0


class Tiers(Protocol):
    """Answers a step of a plan for a task. Raises TierUnavailable."""

    async def sample(self, task: Task, step: PlanStep) -> TierSamples: ...


class Sandbox(Protocol):
    """Runs every candidate against every line. Raises SandboxUnavailable."""

    async def run(self, candidates: Sequence[Candidate], test_lines: Sequence[TestLine]) -> VerdictMatrix: ...
