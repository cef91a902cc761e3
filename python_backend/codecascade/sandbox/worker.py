"""One zygote as its parent sees it: started by exec, sent jobs over a pipe, killed when in doubt."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import sysconfig
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codecascade.sandbox.limits import Limits
from codecascade.sandbox.modules import NO_PACKAGES, Packages
from codecascade.sandbox.reports import NeverStarted, Report
from codecascade.sandbox.zygote import protocol

_log = logging.getLogger(__name__)

_START_S = 30.0
_CANCEL_S = 5.0
# Empty modules replace the packages around the zygote's: the real ones import numpy, which this interpreter does not have.
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
    """The level is not available here. The text is the zygote's reason."""


class ZygoteDied(Exception):
    """The zygote ended or stopped responding before it answered."""


class ZygoteGone(ZygoteDied):
    """The zygote ended before it took the job."""


class Worker:
    """One zygote, from `start` to `kill`. One job at a time."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the zygote has no pipes")
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._messages: deque[Any] = deque()  # None: no more will come
        self._arrival: asyncio.Future[None] | None = None
        self._buffer = bytearray()
        self._loop = asyncio.get_running_loop()
        self.alive = True
        self.started = time.monotonic()
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)
        self._loop.add_reader(self._stdout.fileno(), self._read)

    @classmethod
    async def start(cls, level: str, limits: Limits, packages: Packages = NO_PACKAGES) -> Worker:
        """Raises ZygoteRefused if the level is not available, ZygoteDied if the interpreter does not start."""
        # Not asyncio's subprocess: it needs a child watcher in the thread that calls this.
        process = subprocess.Popen(  # noqa: ASYNC220
            zygote_argv(level, limits, packages),
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
        """One report per source of the job, in order. Raises ZygoteDied, of which ZygoteGone is not the job's doing.

        job: sources, lines ([how, text] each, see the protocol), and of the limits line_s, cpu_s and wall_stretch.
        seconds: a zygote that has not answered after this much wall time counts as hung.
        If the caller is cancelled, the running child is killed and the zygote stays usable.
        """
        sources, wall_s = job["sources"], job["cpu_s"] * job["wall_stretch"]
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
        """Run one child per source and add what it did to the source's report. Raises ZygoteDied, NeverStarted."""
        await self._write(protocol.pack(job))
        attempts = await self._next(seconds)
        if not isinstance(attempts, list) or len(attempts) != len(reports):
            raise ZygoteDied("its answer is not one attempt per source")
        for report, attempt in zip(reports, attempts, strict=True):
            report.add(attempt)

    def kill(self) -> None:
        """End the zygote. The kernel then ends its child."""
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
        except ValueError:  # not JSON: the zygote no longer follows the protocol
            data = b""
        if not data:
            self._loop.remove_reader(self._stdout.fileno())
            self._deliver(None)

    def _deliver(self, message: Any) -> None:
        self._messages.append(message)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def _next(self, seconds: float) -> Any:
        """The next message. Raises ZygoteDied if none comes within `seconds`."""
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
            raise ZygoteGone from None

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
        """Have the running child killed. Kill the zygote too if it does not confirm that, or if this is cancelled."""
        try:
            await self._write(protocol.pack({"cancel": True}))
            while "cancelled" not in await self._next(_CANCEL_S):
                pass
        except ZygoteDied:
            self.kill()
        except BaseException:
            self.kill()
            raise


def zygote_argv(level: str, limits: Limits, packages: Packages) -> list[str]:
    """The command of a fresh interpreter without site-packages, user folder and this project's paths."""
    safe_path = ["-P"] if sys.version_info >= (3, 11) else []
    config = json.dumps({"level": level, "limits": asdict(limits), "packages": asdict(packages)})
    folder = Path(__file__).parent
    bootstrap = _BOOTSTRAP.format(packages=[("codecascade", str(folder.parent)), ("codecascade.sandbox", str(folder))])
    return [interpreter(), "-s", "-S", "-B", *safe_path, "-c", bootstrap, config]


def _environment() -> dict[str, str]:
    """Makes hashes equal in every run, and resolves C symbols once, not in each child. The zygote then empties it.

    A package that calculates in several threads has one here.
    """
    environment = {"PYTHONHASHSEED": "0", "LD_BIND_NOW": "1"}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        environment["LD_LIBRARY_PATH"] = str(sysconfig.get_config_var("LIBDIR"))
    return environment


def interpreter() -> str:
    """The Python behind a virtual environment, or the one embedded in a Triton stub."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    installed = Path(sys.base_prefix, "bin", name)
    return os.path.realpath(installed) if installed.exists() else sys.executable
