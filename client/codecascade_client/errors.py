"""The client's errors. Like the server's they are CascadeErrors, each with one sentence for a person:

CascadeError
├─ RequestFailed       the server refused, failed or could not be reached
│  └─ Overloaded       the server had no room for the request
├─ DatasetError        a benchmark or a task that cannot be read
├─ RecordingError      a recording that cannot be used, or that lacks what is asked of it
│  └─ NotJudged        answers that have no verdicts of the tests that come with their tasks
├─ WriteFailed         a file that could not be written
├─ MetricsError        what a server counts cannot be read, or tells nothing about its plans
└─ …                   codecascade.errors: InvalidSetting, PlanFileError, DeploymentError, …
"""

from __future__ import annotations

from codecascade.errors import CascadeError
from grpc import StatusCode  # type: ignore[import-untyped]


class RequestFailed(CascadeError):
    """The server refused, could not answer or could not be reached."""

    def __init__(self, code: StatusCode, sentence: str, retry_after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.code = code  # the gRPC status
        self.sentence = sentence  # what the server said, or why it cannot be reached
        self.retry_after_s = retry_after_s  # when it may be sent again: nothing was spent on it; None: something may have been


class Overloaded(RequestFailed):
    """The server had no room for the request; `retry_after_s` says when it may have."""


class DatasetError(CascadeError):
    """A benchmark or a task that cannot be read."""


class RecordingError(CascadeError):
    """A recording that cannot be used, or that lacks what is asked of it."""


class NotJudged(RecordingError):
    """Answers that were not judged against the tests that come with their tasks."""


class WriteFailed(CascadeError):
    """A file that could not be written: its path and why."""


class MetricsError(CascadeError):
    """What a server counts cannot be read, or nothing is promised of it."""


def reason(error: Exception) -> str:
    """Why something could not be read, in one line."""
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing"
    return (getattr(error, "strerror", None) or str(error)).partition("\n")[0]
