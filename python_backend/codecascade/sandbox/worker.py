"""One zygote as its parent sees it: started by exec, given jobs over a pipe, killed when in doubt."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import AsyncGenerator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codecascade.sandbox.limits import Limits
from codecascade.sandbox.zygote import protocol

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
    """A zygote at one level. One job at a time."""

    def __init__(self, level: str, limits: Limits) -> None:
        self._level = level
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._messages: asyncio.Queue[Any] = asyncio.Queue()
        self._buffer = bytearray()

    @property
    def alive(self) -> bool:
        return self._process is not None

    async def start(self) -> None:
        """Raises ZygoteRefused where the level cannot be had, ZygoteDied where the interpreter does not even start."""
        argv = zygote_argv(self._level, self._limits)
        self._messages = asyncio.Queue()
        self._buffer = bytearray()
        self._process = subprocess.Popen(  # noqa: ASYNC220 - asyncio's own would want a child watcher in this thread
            argv,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._stdout, False)
        asyncio.get_running_loop().add_reader(self._stdout, self._read)
        try:
            message = await self._next(_START_S)
        except BaseException:
            self.kill()
            raise
        if "refused" in message:
            self.kill()
            raise ZygoteRefused(message["refused"])

    async def run(self, job: dict[str, Any], answer_s: float) -> AsyncGenerator[dict[str, Any], None]:
        """One answer for each of the job's sources, in order. Raises ZygoteDied.

        answer_s: wall seconds after which a missing answer means that the zygote hangs.
        When the caller stops early (cancellation, an error) the running child is killed and the zygote stays usable.
        """
        answered = 0
        try:
            await self._write(protocol.pack(job))
            while answered < len(job["sources"]):
                message = await self._next(answer_s)
                answered += 1
                yield message
        except ZygoteDied:
            self.kill()
            raise
        finally:
            if answered < len(job["sources"]) and self.alive:
                await asyncio.shield(self._cancel())

    def kill(self) -> None:
        """End the zygote and with it, by the kernel, its child."""
        process, self._process = self._process, None
        if process is None or process.stdin is None or process.stdout is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(process.stdout)
        loop.remove_writer(process.stdin)
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()

    @property
    def _stdin(self) -> int:
        if self._process is None or self._process.stdin is None:
            raise ZygoteDied
        return self._process.stdin.fileno()

    @property
    def _stdout(self) -> int:
        if self._process is None or self._process.stdout is None:
            raise ZygoteDied
        return self._process.stdout.fileno()

    def _read(self) -> None:
        try:
            data = os.read(self._stdout, 1 << 20)
        except BlockingIOError:
            return
        if data:
            self._buffer += data
            try:
                for message in protocol.unpack(self._buffer):
                    self._messages.put_nowait(message)
            except ValueError:
                data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._stdout)
            self._messages.put_nowait(None)

    async def _next(self, seconds: float) -> Any:
        if self._messages.empty():
            timer = asyncio.get_running_loop().call_later(seconds, self._messages.put_nowait, None)
            try:
                message = await self._messages.get()
            finally:
                timer.cancel()
        else:
            message = self._messages.get_nowait()
        if message is None:
            raise ZygoteDied
        return message

    async def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[await _write_some(self._stdin, rest) :]
        except OSError:
            raise ZygoteDied from None

    async def _cancel(self) -> None:
        try:
            await self._write(protocol.pack({"cancel": True}))
            while "cancelled" not in await self._next(_CANCEL_S):
                pass
        except ZygoteDied:
            self.kill()


def zygote_argv(level: str, limits: Limits) -> list[str]:
    """The command of a fresh interpreter that has no site-packages, no user folder and no path of ours but one."""
    safe_path = ["-P"] if sys.version_info >= (3, 11) else []
    config = json.dumps({"level": level, "limits": asdict(limits)})
    folder = Path(__file__).parent
    bootstrap = _BOOTSTRAP.format(packages=[("codecascade", str(folder.parent)), ("codecascade.sandbox", str(folder))])
    return [_interpreter(), "-s", "-S", "-B", *safe_path, "-c", bootstrap, config]


def _environment() -> dict[str, str]:
    """Equal hashes in every run; the zygote then empties its environment."""
    environment = {"PYTHONHASHSEED": "0"}
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        environment["LD_LIBRARY_PATH"] = str(sysconfig.get_config_var("LIBDIR"))
    return environment


def _interpreter() -> str:
    """The Python behind a virtual environment, or the one that is embedded in a Triton stub."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    installed = Path(sys.base_prefix, "bin", name)
    return os.path.realpath(installed) if installed.exists() else sys.executable


async def _write_some(fd: int, data: memoryview) -> int:
    """Bytes written, once the pipe takes any. Raises OSError when the other end is closed."""
    try:
        return os.write(fd, data)
    except BlockingIOError:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(fd, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(fd)
        return 0
