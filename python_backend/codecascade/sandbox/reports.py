"""What became of a candidate's lines, read from what its children wrote."""

from __future__ import annotations

import os
import signal

from codecascade.sandbox.zygote.protocol import DIED, OK, TAMPERED, TIMEOUT, Attempt, FrameReader, Tampered

_MAX_DEATHS = 2  # how often a candidate that dies in a line is started again at the next one


class NeverStarted(Exception):
    """A child ended before it was locked down, which is not its candidate's fault."""


class Report:
    """One candidate's results, from one or more attempts. It is `done` when no further attempt is needed.

    The limits are for all attempts together.
    """

    def __init__(self, lines: int, cpu_limit_s: float, wall_limit_s: float) -> None:
        self._count = lines
        self._deaths = 0
        self.cpu_left_s, self.wall_left_s = cpu_limit_s, wall_limit_s
        self.module = DIED  # a status
        self.lines: list[tuple[int, str]] = []  # status and value text
        self.cpu_s = 0.0  # of all attempts
        self.ending = ""  # why the last child ended, in words

    @property
    def done(self) -> bool:
        return self.module == TAMPERED or (self.ending != "" and len(self.lines) == self._count)

    def add(self, attempt: Attempt) -> None:
        """Add what a child did that ran the lines after the known ones. Raises NeverStarted."""
        reader = FrameReader(attempt.nonce, len(self.lines), self._count)
        self.cpu_s += attempt.cpu_s
        self.cpu_left_s -= attempt.cpu_s
        self.wall_left_s -= attempt.wall_s
        try:
            reader.feed(attempt.frames)
            reader.end()
        except Tampered:
            self.module, self.ending = TAMPERED, "tampered with its verdicts"
            self.lines = [(TAMPERED, "")] * self._count
            return
        fate, self.ending = _fate(attempt, reader.complete)
        if not reader.frames:
            raise NeverStarted(f"a child {self.ending} before it was locked down")
        module, *lines = reader.frames[1:] or [(fate, "")]
        if not self.lines:
            self.module = module[0]
        self.lines += lines
        if reader.complete:
            return
        if module[0] != OK:  # its functions are not defined, so no line can run
            self.ending = "raised outside the lines" if len(reader.frames) > 1 else self.ending
            self._leave_out_the_rest(module[0])
            return
        self.lines.append((fate, ""))
        self._deaths += fate == DIED
        if self._deaths > _MAX_DEATHS or self.cpu_left_s <= 0 or self.wall_left_s <= 0:
            self._leave_out_the_rest(fate)

    def _leave_out_the_rest(self, status: int) -> None:
        self.lines += [(status, "")] * (self._count - len(self.lines))


def _fate(attempt: Attempt, complete: bool) -> tuple[int, str]:
    """The status of the line that a child was in when it ended, and why it ended."""
    if complete:
        return DIED, "finished"
    if attempt.timed_out:
        return TIMEOUT, "timeout"
    if os.WIFSIGNALED(attempt.status):
        number = os.WTERMSIG(attempt.status)
        return TIMEOUT if number == signal.SIGXCPU else DIED, f"killed by {_signal_name(number)}"
    return DIED, f"exited with {os.WEXITSTATUS(attempt.status)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return f"signal {number}"
