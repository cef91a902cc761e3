"""Forks a child for a candidate, watches its clock and its channel, and says what became of every line."""

from __future__ import annotations

import os
import select
import signal
import time
from functools import lru_cache
from os import _exit
from typing import Any, NamedTuple

from codecascade.sandbox.zygote import child, system
from codecascade.sandbox.zygote.protocol import (
    DIED,
    FIRST_LINE,
    FRAME,
    MODULE,
    NONCE_BYTES,
    OK,
    READ_BYTES,
    READY,
    TAMPERED,
    TIMEOUT,
    FrameReader,
    Tampered,
)

CHANNEL = 3  # where a child writes its frames
FIRST_PRIVATE_FD = 5  # 4 may hold the library's folder; what lies above belongs to the zygote

_MAX_DEATHS = 2  # a candidate that dies in a line is started again behind it this many times
WALL_STRETCH = 4.0  # a starved child gets this many times its limit in wall time
_START_S = 10.0  # for what a child does before the candidate's first line
_PIPE_BYTES = 1 << 16


class Cancelled(Exception):
    """The parent does not want this candidate any more."""


class Bounds(NamedTuple):
    """CPU seconds for the module and for each line, for a candidate altogether; wall seconds for it altogether."""

    line_s: float
    cpu_s: float
    wall_s: float

    def less(self, cpu_s: float, wall_s: float) -> Bounds:
        return Bounds(self.line_s, self.cpu_s - cpu_s, self.wall_s - wall_s)

    @property
    def exhausted(self) -> bool:
        return self.cpu_s <= 0 or self.wall_s <= 0


class Report:
    """module: a status. lines: (status, value text) each. ending: why the last child ended, in words."""

    def __init__(self) -> None:
        self.module = DIED
        self.lines: list[tuple[int, str]] = []
        self.cpu_s = self.wall_s = 0.0
        self.ending = ""


class Supervisor:
    """control: readable when the parent wants the running candidate stopped, or is gone.

    lock_down_child: what takes from a child the rights that it has inherited and only the zygote needs.
    """

    def __init__(self, control: int, lock_down_child: list[system.Call]) -> None:
        self._control = control
        self._lock_down_child = lock_down_child
        self._die_with_us = system.prctl_call(system.PR_SET_PDEATHSIG, signal.SIGKILL)
        self._pid = os.getpid()

    def judge(self, source: str, lines: list[list[Any]], bounds: Bounds) -> Report:
        """Raises Cancelled."""
        report = Report()
        deaths = 0
        while True:
            start = len(report.lines)
            attempt = _Attempt(self._control, source, lines, start, bounds.less(report.cpu_s, report.wall_s))
            attempt.watch(self._fork(attempt))
            report.cpu_s += attempt.cpu_s
            report.wall_s += attempt.wall_s
            report.ending = attempt.ending
            if attempt.tampered:
                report.module = TAMPERED
                report.lines = [(TAMPERED, "")] * len(lines)
                return report
            frames = attempt.reader.frames[1:]  # without READY
            if start == 0:
                report.module = frames[0][0] if frames else attempt.fate
            report.lines += frames[1:]
            if len(report.lines) == len(lines):
                return report
            if not frames or frames[0][0] != OK:  # it did not even define its functions
                fate = frames[0][0] if frames else attempt.fate
                report.ending = "raised outside the lines" if frames else report.ending
                report.lines += [(fate, "")] * (len(lines) - len(report.lines))
                return report
            report.lines.append((attempt.fate, ""))
            deaths += attempt.fate == DIED
            if deaths > _MAX_DEATHS or bounds.less(report.cpu_s, report.wall_s).exhausted:
                report.lines += [(attempt.fate, "")] * (len(lines) - len(report.lines))
                return report

    def _fork(self, attempt: _Attempt) -> int:
        pid = system.fork()
        if pid == 0:
            try:
                self._become_child(attempt)
                os.write(CHANNEL, FRAME.pack(attempt.nonce, READY, OK, 0))
                child.run(attempt.source, attempt.lines, attempt.start, attempt.nonce, CHANNEL)
            finally:
                _exit(0)
        return pid

    def _become_child(self, attempt: _Attempt) -> None:
        self._die_with_us()
        if os.getppid() != self._pid:
            _exit(0)  # the zygote was gone before it could take us along
        os.dup2(attempt.write_end, CHANNEL)
        os.closerange(FIRST_PRIVATE_FD, 64)
        attempt.limit_cpu()
        for call in self._lock_down_child:
            call()


class _Attempt:
    """One child, from its pipe to its end."""

    def __init__(self, control: int, source: str, lines: list[list[Any]], start: int, bounds: Bounds) -> None:
        self.source, self.lines, self.start, self.bounds = source, lines, start, bounds
        self.nonce = os.urandom(NONCE_BYTES)
        self.reader = FrameReader(self.nonce, [READY, MODULE, *range(start + FIRST_LINE, len(lines) + FIRST_LINE)])
        self.cpu_s = self.wall_s = 0.0
        self._started = time.monotonic()
        self.ending = "finished"
        self.fate = DIED
        self.tampered = False
        self.limit_cpu = _cpu_limit(int(bounds.cpu_s) + 2)  # only for a child that the zygote cannot end any more
        self._control = control
        self._read_end, self.write_end = os.pipe()
        # All that can be made ready before the fork is: what the zygote writes to while a child lives is copied page by page.
        self._poller = select.poll()
        # Only the end of the channel wakes us: results are picked up then, or at a tick.
        self._poller.register(self._read_end, 0)
        self._poller.register(control, select.POLLIN)
        self._tick_s = max(0.001, min(0.1, bounds.line_s / 8))

    def watch(self, pid: int) -> None:
        """Wait for the child's end, or bring it about."""
        os.close(self.write_end)
        cancelled = False
        try:
            self._wait_for_end(pid)
        except Tampered:
            self.tampered = True
        except Cancelled:
            cancelled = True
        os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        self.cpu_s = usage.ru_utime + usage.ru_stime
        self.wall_s = time.monotonic() - self._started
        if not self.tampered and not cancelled:
            self._read_rest()
        os.close(self._read_end)
        if cancelled:
            raise Cancelled
        self._explain(status)
        if not self.reader.frames and not self.tampered:
            raise OSError(f"a child {self.ending} before it was locked down")

    def _wait_for_end(self, pid: int) -> None:
        wall = _PatientClock(self._tick_s, self._started)
        cpu_mark, wall_mark, seen = 0.0, 0.0, 0
        while True:
            for fd, event in self._poller.poll(self._tick_s * 1000):
                if fd == self._control:
                    raise Cancelled
                if event & select.POLLHUP:
                    return
            if self._read_available() > _PIPE_BYTES // 2:
                self._poller.modify(self._read_end, select.POLLIN)  # they might not fit into the pipe: wake up for each
            if self.reader.complete:
                return
            cpu_s, wall_s = _cpu_clock(pid), wall.read()
            if len(self.reader.frames) > seen:
                cpu_mark, wall_mark, seen = cpu_s, wall_s, len(self.reader.frames)
            limit = self.bounds.line_s if seen else _START_S
            left = self.bounds.less(cpu_s, wall_s)
            if cpu_s - cpu_mark >= limit or wall_s - wall_mark >= limit * WALL_STRETCH or (seen and left.exhausted):
                self.fate, self.ending = TIMEOUT, "timeout"
                return

    def _read_available(self) -> int:
        """Bytes read."""
        poller = select.poll()
        poller.register(self._read_end, select.POLLIN)
        size = 0
        while poller.poll(0) and (data := os.read(self._read_end, READ_BYTES)):
            self.reader.feed(data)
            size += len(data)
        return size

    def _read_rest(self) -> None:
        try:
            while data := os.read(self._read_end, READ_BYTES):
                self.reader.feed(data)
            self.reader.end()
        except Tampered:
            self.tampered = True

    def _explain(self, status: int) -> None:
        if self.tampered:
            self.ending = "tampered with its verdicts"
        elif self.reader.complete:
            self.ending = "finished"
        elif self.fate != TIMEOUT:
            if os.WIFSIGNALED(status):
                number = os.WTERMSIG(status)
                if number == signal.SIGXCPU:
                    self.fate = TIMEOUT
                self.ending = f"killed by {signal.Signals(number).name}"
            else:
                self.ending = f"exited with {os.WEXITSTATUS(status)}"


@lru_cache(maxsize=16)
def _cpu_limit(seconds: int) -> system.Call:
    return system.limit_call("RLIMIT_CPU", seconds)


class _PatientClock:
    """Wall time as far as this process got any: where it wakes up late, its child had to wait as well."""

    def __init__(self, tick_s: float, started: float) -> None:
        self._longest_s = 2 * tick_s
        self._last = started
        self._sum = 0.0

    def read(self) -> float:
        now = time.monotonic()
        self._sum += min(now - self._last, self._longest_s)
        self._last = now
        return self._sum


def _cpu_clock(pid: int) -> float:
    """CPU seconds of a running or just ended child (clock_getcpuclockid's formula)."""
    return time.clock_gettime((~pid << 3) | 2)
