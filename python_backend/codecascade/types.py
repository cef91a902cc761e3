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
    KEEP = "keep"
    """No answer is convincing and no tier is left to ask: the best answer of all is kept."""


@dataclass(frozen=True, slots=True)
class TestLine:
    """One single-line assert statement."""

    __test__ = False  # not a pytest class
    source: str


@dataclass(frozen=True, slots=True)
class Task:
    """What to complete."""

    prompt: str
    """It ends where the code is to go on."""
    entry_point: str | None = None
    """The function that tests call, with its classes: Stack.push. None: there is nothing to test."""
    suffix: str = ""
    """What follows the code that is to be written."""
    expression: str = ""
    """How a test line begins to use the function, where its name is not enough: Stack().push."""
    untested: str | None = None
    """Why tests would say nothing, in words. Then none are asked for."""
    given_tests: tuple[TestLine, ...] = ()
    """Tests that come with the request: what the caller sends, and the prompt's examples. Nobody has to pay for them."""
    unusable_tests: tuple[str, ...] = ()
    """What is wrong with those that the caller sent and that cannot be run, in words."""

    infill: bool = False
    """Whether the code between prompt and suffix is asked for as such: by fill-in-the-middle."""
    language: str = ""
    """What an infill is written in, as the caller names it; empty: as its text looks."""
    one_line: bool = False
    """Whether an infill ends with its line."""
    program: bool = False
    """Whether the given tests run the whole program, on inputs, and compare what it prints. Then no tier writes tests."""

    @property
    def testable(self) -> bool:
        return self.untested is None and (self.program or self.entry_point is not None)

    @property
    def tested(self) -> str:
        """How a test line begins to use the function; empty if there is none."""
        return "the whole program" if self.program else self.expression or self.entry_point or ""


def _check_tier(tier: object) -> None:
    if not isinstance(tier, str) or not tier:
        raise ValueError(f"tier of a step is {tier!r}, must be a model's name")


def _check_log_prob(name: str, value: float | None) -> None:
    if value is not None and not (isinstance(value, (int, float)) and -1e6 <= value <= 0):
        raise ValueError(f"{name} is {value!r}, must be -1000000 to 0")


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One step of a plan: what a tier is asked for, and when its answer is accepted."""

    tier: str
    k: int
    """Solutions to draw, and test samples; 0: one greedy solution, no tests."""
    lines_per_sample: int = 0
    """Asserts to keep of each test sample."""
    threshold: float = 0.0
    """The normalised score, 0…1, from which the best solution is accepted."""
    accept_log_prob: float | None = None
    """The log-probability, 0 or less, from which a greedy answer is accepted and no tests are asked for. None: at none."""
    leave_log_prob: float | None = None
    """The log-probability below which the tier is left at once and no tests are asked for. None: at none."""

    def __post_init__(self) -> None:
        _check_tier(self.tier)
        lines = (1, 100) if self.k else (0, 0)  # k = 0 has no tests
        for name, value, kind, (low, high) in (
            ("k", self.k, int, (0, 100)),
            ("lines_per_sample", self.lines_per_sample, int, lines),
            ("threshold", self.threshold, (int, float), (0, 1)),
        ):
            if not isinstance(value, kind) or not low <= value <= high:
                raise ValueError(f"{name} of tier {self.tier!r} is {value!r}, must be {low} to {high}")
        for name, limit in (("accept_log_prob", self.accept_log_prob), ("leave_log_prob", self.leave_log_prob)):
            _check_log_prob(f"{name} of tier {self.tier!r}", limit)
            if limit is not None and not self.greedy:
                raise ValueError(f"{name} of tier {self.tier!r} needs a greedy answer, k is {self.k}, must be 0 or 1")
        if self.leave_log_prob is not None and self.k == 0:
            raise ValueError(f"leave_log_prob of tier {self.tier!r} saves tests, k is 0, must be 1")
        leave, accept = self.leave_log_prob, self.accept_log_prob
        if leave is not None and accept is not None and leave > accept:
            raise ValueError(f"leave_log_prob of tier {self.tier!r} is {leave}, must be accept_log_prob, {accept}, or less")

    @property
    def greedy(self) -> bool:
        """Whether solutions are decoded greedily: for k = 0 and 1. More are sampled (paper, section on the grid)."""
        return self.k <= 1

    @property
    def looks_first(self) -> bool:
        """Whether an answer's log-probability may decide, before tests are asked for."""
        return self.accept_log_prob is not None or self.leave_log_prob is not None


MAX_TEST_LINES = 2_000
"""Test lines that candidates are run against at a time."""
MAX_DRAWS = 101
"""One greedy answer, and as many sampled ones as a call gives."""


@dataclass(frozen=True, slots=True)
class GivenStep:
    """One step of a plan for a request that comes with tests: answers are drawn one by one until one passes all of them."""

    tier: str
    draws: int
    """Answers at most, 1 to 101. The first is greedy."""

    def __post_init__(self) -> None:
        _check_tier(self.tier)
        if not isinstance(self.draws, int) or not 1 <= self.draws <= MAX_DRAWS:
            raise ValueError(f"draws of tier {self.tier!r} is {self.draws!r}, must be 1 to {MAX_DRAWS}")


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered steps, small tier to large. The last step always accepts."""

    name: str
    steps: tuple[PlanStep, ...]
    given_steps: tuple[GivenStep, ...] = ()
    """For requests that come with tests. Empty: they are treated like all others."""
    infill_steps: tuple[PlanStep, ...] = ()
    """For infills: each asks for one greedy answer (k = 0). Empty: the last tier is asked."""

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError(f"plan {self.name!r} has no steps")
        for steps in (self.steps, self.given_steps, self.infill_steps):
            tiers = [step.tier for step in steps]
            if len(set(tiers)) < len(tiers):
                raise ValueError(f"plan {self.name!r} names a tier twice: {', '.join(tiers)}")
        if any(step.k == 0 and step.accept_log_prob is None for step in (*self.steps[:-1], *self.infill_steps[:-1])):
            raise ValueError(
                f"plan {self.name!r} has a step with k = 0 and no accept_log_prob before its last one: it could never be left"
            )
        if any(step.k for step in self.infill_steps):
            raise ValueError(
                f"plan {self.name!r} has a step for infills with k above 0, must be 0: an infill is one greedy answer"
            )

    @property
    def tiers(self) -> tuple[str, ...]:
        """Every tier that it may ask, each once."""
        return tuple(dict.fromkeys(step.tier for steps in (self.given_steps, self.steps, self.infill_steps) for step in steps))


@dataclass(frozen=True, slots=True)
class LogProbs:
    """Natural logarithms of the probabilities that a model gave to the tokens it generated, at temperature 1.

    A TensorRT-LLM engine tells them at the temperature of the request: at 1 for greedy sequences alone.
    """

    total: float
    lowest: float
    tokens: int
    """How many tokens these are: 1 or more."""

    @classmethod
    def of(cls, values: Sequence[float]) -> LogProbs | None:
        """None for no values."""
        return cls(sum(values), min(values), len(values)) if values else None

    @property
    def mean(self) -> float:
        return self.total / self.tokens

    def and_then(self, more: LogProbs) -> LogProbs:
        """Of these tokens and more of them."""
        return LogProbs(self.total + more.total, min(self.lowest, more.lowest), self.tokens + more.tokens)


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion as a tier gave it."""

    text: str
    completion_tokens: int
    finish_reason: str = "stop"
    """stop, length or cancelled."""
    line_tokens: tuple[int, ...] = ()
    """(lines,) tokens of a sample that ends after each line; empty where the runtime cannot end a sample at a line."""
    stop_word: str = ""
    """The stop word that ended the text, which is cut from it; empty if something else did."""
    continued_prompt_tokens: int = 0
    """Tokens of the second prompt that the text was asked for with, if it was ended too early (see codecascade.tiers.live)."""
    log_probs: LogProbs | None = None
    """Of the generated tokens; None where the runtime does not tell."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer of a model."""

    source: str
    """A whole program that defines the task's function: the prompt's code and the model's."""
    inserted: str = ""
    """What the completion adds to the prompt."""
    problem: str | None = None
    """Why the source is no program here, in words; None: it is one."""
    cut: bool = False
    """Whether the token limit ended the answer before the code was whole."""
    tokens: int = 0
    """What the answer has."""
    log_probs: LogProbs | None = None
    """Of the answer's tokens; None where the runtime does not tell."""

    @property
    def whole(self) -> bool:
        """Whether it is a program, and was not cut."""
        return self.problem is None and not self.cut

    @property
    def log_prob(self) -> float | None:
        """Natural logarithm of the answer's probability; None where the runtime does not tell."""
        return self.log_probs.total if self.log_probs else None


@dataclass(frozen=True, slots=True)
class TierSamples:
    """What one tier answered for one step: k candidates (1 if k = 0) and the pooled test lines."""

    candidates: tuple[Candidate, ...]
    test_lines: tuple[TestLine, ...]
    prompt_tokens: int
    completion_tokens: int
    problem: str | None = None
    """Why there are no test lines although some were asked for, in words."""


@dataclass(frozen=True, slots=True)
class VerdictMatrix:
    """Every candidate against every test line."""

    verdicts: NDArray[np.int8]
    """(candidates, lines) of Verdict."""
    cpu_s: NDArray[np.float64]
    """(candidates,) CPU seconds."""
    modes: tuple[str, ...] = ()
    """(lines,) how each line was judged: blind, tick or invalid; empty if the sandbox does not say."""
    endings: tuple[str, ...] = ()
    """(candidates,) why each candidate's process ended; empty if the sandbox does not say."""

    def __post_init__(self) -> None:
        if self.verdicts.ndim != 2 or self.cpu_s.shape != self.verdicts.shape[:1]:
            raise ValueError(f"verdicts {self.verdicts.shape} and cpu_s {self.cpu_s.shape} must have equally many candidates")

    @property
    def passed(self) -> NDArray[np.bool_]:
        """(candidates, lines) bool."""
        return np.equal(self.verdicts, Verdict.PASS)


@dataclass(frozen=True, slots=True)
class Score:
    """The best candidate and the evidence for it."""

    best: int
    """Its index."""
    agreement: int
    """Its n_s · n_t: the lines it passes times the candidates that pass the same line."""
    pairs: int
    """Candidates × lines; 0 if nothing was tested."""
    cut: bool = False
    """Whether the token limit ended its answer."""

    @property
    def value(self) -> float:
        """Agreement normalised to 0…1."""
        return self.agreement / self.pairs if self.pairs else 0.0


class Tiers(Protocol):
    """Answers a step of a plan for a task. Raises TierUnavailable."""

    async def sample(self, task: Task, step: PlanStep) -> TierSamples: ...

    async def add_tests(self, task: Task, step: PlanStep, samples: TierSamples) -> TierSamples:
        """The drawn samples with the tests that the tier writes now, as `sample` would have given both."""
        ...

    async def draw(self, task: Task, tier: str, number: int) -> TierSamples:
        """One solution, no tests. number: 0 for the greedy one, n for the n-th sampled one."""
        ...


class Sandbox(Protocol):
    """Runs every candidate against every line. Raises SandboxUnavailable."""

    async def run(self, candidates: Sequence[Candidate], test_lines: Sequence[TestLine]) -> VerdictMatrix: ...
