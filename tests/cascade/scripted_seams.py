"""Fakes of the cascade's two seams: tiers and a sandbox that answer from tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from codecascade.errors import TierUnavailable
from codecascade.types import Candidate, PlanStep, Task, TestLine, TierSamples, VerdictMatrix

PROMPT_TOKENS = 5  # of every scripted answer
COMPLETION_TOKENS = 10  # of every scripted answer
CPU_S = 0.25  # of every scripted candidate


def answer(*sources: str | Candidate, tests: Sequence[str] = ("assert f() == 1",)) -> TierSamples:
    return TierSamples(
        tuple(source if isinstance(source, Candidate) else Candidate(source) for source in sources),
        tuple(TestLine(line) for line in tests),
        prompt_tokens=PROMPT_TOKENS,
        completion_tokens=COMPLETION_TOKENS,
    )


@dataclass
class ScriptedTiers:
    answers: Mapping[str, TierSamples | Exception]
    """Tier → its answer, or the error that it raises."""
    asked: list[PlanStep] = field(default_factory=list)
    """In order."""
    drawn: list[tuple[str, int]] = field(default_factory=list)
    """Tier and number of every single answer, in order."""

    async def sample(self, task: Task, step: PlanStep) -> TierSamples:
        self.asked.append(step)
        answer = self.answers[step.tier]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def draw(self, task: Task, tier: str, number: int) -> TierSamples:
        """The number-th solution of its answer; an error where it has fewer."""
        self.drawn.append((tier, number))
        answer = self.answers[tier]
        if isinstance(answer, Exception):
            raise answer
        if number >= len(answer.candidates):
            raise TierUnavailable(f"tier {tier}: no more")
        return replace(answer, candidates=answer.candidates[number : number + 1], test_lines=())

    async def add_tests(self, task: Task, step: PlanStep, samples: TierSamples) -> TierSamples:
        """Its answer's test lines, at its answer's tokens once more."""
        answer = await self.sample(task, step)
        return replace(
            samples,
            test_lines=answer.test_lines,
            prompt_tokens=samples.prompt_tokens + answer.prompt_tokens,
            completion_tokens=samples.completion_tokens + answer.completion_tokens,
        )


@dataclass
class ScriptedSandbox:
    rows: Mapping[str, Sequence[int]] | Exception
    """Candidate source → its row of verdicts; an error is raised for every run."""
    runs: int = 0

    async def run(self, candidates: Sequence[Candidate], test_lines: Sequence[TestLine]) -> VerdictMatrix:
        self.runs += 1
        if isinstance(self.rows, Exception):
            raise self.rows
        verdicts = np.array([self.rows[candidate.source] for candidate in candidates], np.int8)
        return VerdictMatrix(verdicts, np.full(len(candidates), CPU_S))
