"""One zygote as its parent sees it: started by exec, given jobs over a pipe, killed when in doubt."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import sysconfig
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codecascade.sandbox.limits import Limits
from codecascade.sandbox.reports import NeverStarted, Report
from codecascade.sandbox.zygote import protocol
from codecascade.sandbox.zygote.supervise import WALL_STRETCH

_log = logging.getLogger(__name__)

_START_S = 30.0
_CANCEL_S = 5.0
# The packages around the zygote's are stood in for: importing them would import numpy, which is not there.
_BOOTSTRAP = """
import sys, types
sys.path[:] = [path for path in sys.path if path]
for name, folder in {packages!r}:
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [folder]
from codecascade.sandbox.zygote.main import main
main()
"""


class ZygoteRefused(Exception):
    """The level cannot be had here: what the zygote said about it."""


class ZygoteDied(Exception):
    """It ended, or fell silent, before it had answered."""


class Worker:
    """One zygote, from `start` to `kill`. One job at a time."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the zygote has no pipes")
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._messages: deque[Any] = deque()  # None: there will be no more
        self._arrival: asyncio.Future[None] | None = None
        self._buffer = bytearray()
        self._loop = asyncio.get_running_loop()
        self.alive = True
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)
        self._loop.add_reader(self._stdout.fileno(), self._read)

    @classmethod
    async def start(cls, level: str, limits: Limits) -> Worker:
        """Raises ZygoteRefused where the level cannot be had, ZygoteDied where the interpreter does not even start."""
        # subprocess rather than asyncio's, which wants a child watcher in whatever thread this is.
        process = subprocess.Popen(  # noqa: ASYNC220
            zygote_argv(level, limits),
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        worker = cls(process)
        try:
            message = await worker._next(_START_S)
            if "refused" in message:
                raise ZygoteRefused(message["refused"])
        except BaseException:
            worker.kill()
            raise
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    async def run(self, job: dict[str, Any], seconds: float) -> list[Report]:
        """A report for each of the job's sources, in order. Raises ZygoteDied.

        job: sources, lines ([blind, text] each), and the CPU seconds for a line (line_s) and for a candidate (cpu_s).
        seconds: wall time after which a missing answer means that the zygote hangs.
        When the caller is cancelled the running child is killed and the zygote stays usable.
        """
        sources, wall_s = job["sources"], job["cpu_s"] * WALL_STRETCH
        reports = [Report(len(job["lines"]), job["cpu_s"], wall_s) for _ in sources]
        try:
            await self._attempt({**job, "start": 0, "wall_s": wall_s}, reports, seconds)
            for source, report in zip(sources, reports, strict=True):
                while not report.done:
                    rest = {"start": len(report.lines), "cpu_s": report.cpu_left_s, "wall_s": report.wall_left_s}
                    await self._attempt({**job, "sources": [source], **rest}, [report], seconds)
        except asyncio.CancelledError:
            await self._cancel()
            raise
        except ZygoteDied:
            self.kill()
            raise
        except NeverStarted as error:
            _log.warning("a zygote failed: %s", error)
            self.kill()
            raise ZygoteDied(str(error)) from None
        return reports

    async def _attempt(self, job: dict[str, Any], reports: list[Report], seconds: float) -> None:
        """One child for each source; adds what it did to the source's report. Raises ZygoteDied, NeverStarted."""
        await self._write(protocol.pack(job))
        attempts = await self._next(seconds)
        if not isinstance(attempts, list) or len(attempts) != len(reports):
            raise ZygoteDied("it answered something else")
        for report, attempt in zip(reports, attempts, strict=True):
            report.add(attempt)

    def kill(self) -> None:
        """End the zygote and with it, by the kernel, its child."""
        if not self.alive:
            return
        self.alive = False
        self._loop.remove_reader(self._stdout.fileno())
        self._loop.remove_writer(self._stdin.fileno())
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self._stdout.close()
        self._deliver(None)

    def _read(self) -> None:
        try:
            data = os.read(self._stdout.fileno(), 1 << 16)
            self._buffer += data
            for message in protocol.unpack(self._buffer):
                self._deliver(message)
        except BlockingIOError:
            return
        except ValueError:  # not JSON: whatever it is, it is not ours any more
            data = b""
        if not data:
            self._loop.remove_reader(self._stdout.fileno())
            self._deliver(None)

    def _deliver(self, message: Any) -> None:
        self._messages.append(message)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def _next(self, seconds: float) -> Any:
        """The next message. Raises ZygoteDied after so many seconds without one."""
        if not self._messages:
            self._arrival = self._loop.create_future()
            timer = self._loop.call_later(seconds, self._deliver, None)
            try:
                await self._arrival
            finally:
                timer.cancel()
        message = self._messages.popleft()
        if message is None:
            raise ZygoteDied
        if isinstance(message, dict) and "failed" in message:
            _log.warning("a zygote failed: %s", message["failed"])
            raise ZygoteDied(message["failed"])
        return message

    async def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[await self._write_some(rest) :]
        except OSError:
            raise ZygoteDied from None

    async def _write_some(self, data: memoryview) -> int:
        """Bytes written; 0 when the pipe was full and has become writable. Raises OSError when it is closed."""
        try:
            return os.write(self._stdin.fileno(), data)
        except BlockingIOError:
            ready = asyncio.Event()
            self._loop.add_writer(self._stdin.fileno(), ready.set)
            try:
                await ready.wait()
            finally:
                self._loop.remove_writer(self._stdin.fileno())
            return 0

    async def _cancel(self) -> None:
        """Have the running child killed; in doubt, or when cancelled itself, the zygote with it."""
        try:
            await self._write(protocol.pack({"cancel": True}))
            while "cancelled" not in await self._next(_CANCEL_S):
                pass
        except ZygoteDied:
            self.kill()
        except BaseException:
            self.kill()
            raise


def zygote_argv(level: str, limits: Limits) -> list[str]:
    """The command of a fresh interpreter that has no site-packages, no user folder and no path of ours."""
    safe_path = ["-P"] if sys.version_info >= (3, 11) else []
    config = json.dumps({"level": level, "limits": asdict(limits)})
    folder = Path(__file__).parent
    bootstrap = _BOOTSTRAP.format(packages=[("codecascade", str(folder.parent)), ("codecascade.sandbox", str(folder))])
    return [interpreter(), "-s", "-S", "-B", *safe_path, "-c", bootstrap, config]


def _environment() -> dict[str, str]:
    """Equal hashes in every run; C symbols found once, not by each child. The zygote then empties its environment."""
    environment = {"PYTHONHASHSEED": "0", "LD_BIND_NOW": "1"}
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        environment["LD_LIBRARY_PATH"] = str(sysconfig.get_config_var("LIBDIR"))
    return environment


def interpreter() -> str:
    """The Python behind a virtual environment, or the one that is embedded in a Triton stub."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    installed = Path(sys.base_prefix, "bin", name)
    return os.path.realpath(installed) if installed.exists() else sys.executable
