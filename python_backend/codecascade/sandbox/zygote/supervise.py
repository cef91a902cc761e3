"""Forks a child for a candidate and watches its clock and its channel until it ends.

The zygote's first write to a page after a fork is a page fault, and counting a reference is a write. So its work for each child
touches few objects, and the parent parses what a child wrote.
"""

from __future__ import annotations

import os
import select
import signal
import time
from functools import lru_cache
from os import _exit
from typing import Any

from codecascade.sandbox.zygote import child, system
from codecascade.sandbox.zygote.protocol import FRAME, NONCE_BYTES, OK, READ_BYTES, READY, FrameReader, Tampered, pack_attempt

CHANNEL = 3  # where a child writes its frames; the descriptors after it may be folders that it imports through

_START_S = 10.0  # the limit for what a child does before the candidate's first line
_PIPE_BYTES = 1 << 16
_SIGKILL, _POLLHUP = int(signal.SIGKILL), select.POLLHUP


class Cancelled(Exception):
    """The parent no longer wants this candidate."""


class Supervisor:
    """Runs the children of a zygote, one at a time."""

    def __init__(self, control: int, lock_down_child: list[system.Call], first_private_fd: int) -> None:
        self._control = control  # readable when the parent wants the running candidate stopped, or has ended
        self._poller = select.poll()
        self._poller.register(control, select.POLLIN)
        self._first_private_fd = first_private_fd  # from here on descriptors belong to the zygote
        self._lock_down_child = lock_down_child  # drops a child's inherited rights that only the zygote needs
        self._die_with_us = system.prctl_call(system.PR_SET_PDEATHSIG, signal.SIGKILL)
        self._pid = os.getpid()

    def attempt(self, source: str, job: dict[str, Any]) -> bytes:
        """Run a source and the job's lines from `start` on in one child. Returns a packed Attempt. Raises Cancelled.

        job: lines, start, and the limits: CPU seconds for the module and for each line (line_s), CPU and wall seconds for the
        whole child (cpu_s, wall_s), and wall seconds per CPU second for the module and each line (wall_stretch).
        """
        started = time.monotonic()
        nonce = os.urandom(NONCE_BYTES)
        limit_cpu = _cpu_limit(int(job["cpu_s"]) + 2)  # only for a child that the zygote can no longer end
        read_end, write_end = os.pipe()
        pid = system.fork()
        if pid == 0:
            try:
                self._become_child(write_end, limit_cpu)
                os.write(CHANNEL, FRAME.pack(nonce, READY, OK, 0))
                child.run(source, job["lines"], job["start"], nonce, CHANNEL)
            finally:
                _exit(0)
        os.close(write_end)
        self._poller.register(read_end, 0)
        tick_s = max(0.001, min(0.1, job["line_s"] / 8))
        watch = None
        try:
            if not self._ends_within(tick_s):
                watch = _Watch(pid, read_end, self._poller, nonce, job, started, tick_s)
                while not (watch.over() or self._ends_within(tick_s)):
                    pass
        finally:
            os.kill(pid, _SIGKILL)
            cpu_s = _cpu_clock(pid)  # without the time that the kernel takes to clean up after a killed child
            _, status = os.waitpid(pid, 0)
            self._poller.unregister(read_end)
            frames = watch.frames if watch else bytearray()
            while data := os.read(read_end, READ_BYTES):
                frames += data
            os.close(read_end)
        return pack_attempt(nonce, cpu_s, time.monotonic() - started, status, watch is not None and watch.timed_out, frames)

    def _become_child(self, write_end: int, limit_cpu: system.Call) -> None:
        self._die_with_us()
        if os.getppid() != self._pid:
            _exit(0)  # the zygote ended before the kernel knew to end this child with it
        os.dup2(write_end, CHANNEL)
        os.closerange(self._first_private_fd, 64)
        limit_cpu()
        for call in self._lock_down_child:
            call()

    def _ends_within(self, seconds: float) -> bool:
        """Whether the child closes its channel in this time. Data in the channel does not end the wait. Raises Cancelled."""
        for fd, event in self._poller.poll(seconds * 1000):
            if fd == self._control:
                raise Cancelled
            if event & _POLLHUP:
                return True
        return False


class _Watch:
    """Watches a child that still runs after the first tick, until it is done or must be ended."""

    def __init__(
        self, pid: int, channel: int, poller: select.poll, nonce: bytes, job: dict[str, Any], started: float, tick_s: float
    ) -> None:
        self._pid, self._channel, self._poller, self._job = pid, channel, poller, job
        self._reader = FrameReader(nonce, job["start"], len(job["lines"]))
        self._wall = _PatientClock(tick_s, started)
        self._cpu_mark = self._wall_mark = 0.0  # the clocks when the last frame was seen
        self.frames = bytearray()
        self.timed_out = False

    def over(self) -> bool:
        seen = len(self._reader.frames)
        try:
            if self._read_available() > _PIPE_BYTES // 2:
                self._poller.modify(self._channel, select.POLLIN)  # frames might not fit into the pipe: wake up for each
        except Tampered:
            return True
        if self._reader.complete:
            return True
        cpu_s, wall_s = _cpu_clock(self._pid), self._wall.read()
        if len(self._reader.frames) > seen:
            self._cpu_mark, self._wall_mark = cpu_s, wall_s
        limit = self._job["line_s"] if self._reader.frames else _START_S
        self.timed_out = (
            cpu_s - self._cpu_mark >= limit
            or wall_s - self._wall_mark >= limit * self._job["wall_stretch"]
            or (bool(self._reader.frames) and (cpu_s >= self._job["cpu_s"] or wall_s >= self._job["wall_s"]))
        )
        return self.timed_out

    def _read_available(self) -> int:
        """Read what is in the channel. Returns how many bytes."""
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        size = 0
        while poller.poll(0) and (data := os.read(self._channel, READ_BYTES)):
            self.frames += data
            self._reader.feed(data)
            size += len(data)
        return size


@lru_cache(maxsize=16)
def _cpu_limit(seconds: int) -> system.Call:
    return system.limit_call("RLIMIT_CPU", seconds)


class _PatientClock:
    """Wall time without this process's delays: when it wakes up late, its child had to wait as well."""

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
