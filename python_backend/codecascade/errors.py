"""Every error that a caller, a log or a command line may show, each with one sentence for a person:

    CascadeError
    ├─ InvalidRequest      the caller can mend it
    ├─ TierUnavailable     the cascade goes on with the next tier
    ├─ SandboxUnavailable  the cascade goes on without a verdict
    ├─ LimitReached        the cascade goes on with what it has
    │  ├─ DeadlineReached  ┐ nothing more is asked: the best answer so far is the answer
    │  ├─ Overloaded       ┘
    │  └─ TooDear          this call is not made
    ├─ Cancelled           nobody waits for the answer
    ├─ InvalidSetting      ┐
    ├─ DeploymentError     │ the operator can mend it
    ├─ PlanFileError       │
    └─ EngineError         ┘

Errors of the client are in codecascade_client.errors. What a module raises and catches itself stays in that module.
"""

from __future__ import annotations

import asyncio
import re
from typing import ClassVar


class CascadeError(Exception):
    """A part of the system failed. The message is one sentence that a caller may read."""

    cost_nothing = False
    """Whether it is certain that nothing was spent."""


class InvalidRequest(CascadeError):
    """The request names something impossible: the field, its value and what is allowed."""

    cost_nothing = True


class TierUnavailable(CascadeError):
    """A tier failed or timed out; the cascade goes on with the next one."""


class SandboxUnavailable(CascadeError):
    """The sandbox could not judge. Never confused with a verdict."""


class LimitReached(CascadeError):
    """A call was stopped, or not made, though nothing failed. What was answered before is the answer, and is marked so."""

    finish_reason: ClassVar[str]
    """How an answer is marked."""


class DeadlineReached(LimitReached):
    """The caller's time is over. The sentence begins with "deadline exceeded: "."""

    finish_reason = "deadline"


class Overloaded(LimitReached):
    """As much work waits as may wait. Nothing failed and nothing was spent; another tier is never asked instead.

    Triton has no code for it: its sentence, which begins with `overloaded: `, comes as UNAVAILABLE.
    """

    finish_reason = "overloaded"
    cost_nothing = True
    _SENTENCE = re.compile(r"overloaded: (.+); retry after (\d+) s", re.DOTALL)

    def __init__(self, what: str, retry_after_s: float) -> None:
        self.what = what
        self.retry_after_s = float(round(retry_after_s))
        super().__init__(f"overloaded: {what}; retry after {self.retry_after_s:.0f} s")

    @classmethod
    def read(cls, sentence: str) -> Overloaded | None:
        """The error that a sentence tells of, where it crossed a call; None: another error."""
        told = cls._SENTENCE.fullmatch(sentence)
        return cls(told[1], float(told[2])) if told else None


class TooDear(LimitReached):
    """A call that could cost more than is left of what the caller would pay at most."""

    finish_reason = "max_cost"

    def __init__(self, sentence: str, ceiling_usd: float, least_usd: float) -> None:
        super().__init__(sentence)
        self.ceiling_usd, self.least_usd = ceiling_usd, least_usd
        """The ceiling, and the one that would have paid for the call."""


class Cancelled(CascadeError):
    """The caller went away."""


class NotMade(asyncio.CancelledError):
    """The caller went away while its call waited for its turn. No error of ours: a cancellation that has cost nothing."""


class PlanFileError(CascadeError):
    """A plan file that cannot be used, with its path and what is wrong."""


class InvalidSetting(CascadeError):
    """A setting that cannot be used: its name, its value and what is allowed."""


class DeploymentError(CascadeError):
    """A deployment file that cannot be used, with its path and what is wrong."""


class EngineError(CascadeError):
    """An engine that this server cannot run, in one sentence with what it was built for and how to build it again."""


NO_ANSWER = (TierUnavailable, InvalidRequest, LimitReached)
"""A tier does not answer; what was paid for before is kept."""
NO_VERDICT = (SandboxUnavailable, LimitReached)
"""The sandbox does not judge; the answers are kept, untested."""
