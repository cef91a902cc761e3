"""The processes of a Triton server, as /proc shows them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_STUB = "triton_python_backend_stub"


@dataclass(frozen=True, slots=True)
class Stub:
    """The process of a Python model."""

    model: str
    pid: int
    region: str
    """The name of the shared memory in which it exchanges tensors with Triton."""


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    children = defaultdict(list)
    for process in _numbers():
        children[_parent(process)].append(process)
    family = [pid]
    for parent in family:  # it grows meanwhile
        family += children[parent]
    return family[1:]


def stubs(server: int) -> list[Stub]:
    """The living processes of a server's Python models. server: the process id of the server or of what started it."""
    return [stub for pid in descendants(server) if (stub := _stub(pid))]


def kill(server: int, models: Iterable[Stub]) -> None:
    """End a server and all of its processes at once. models: those whose process may have ended already."""
    models = {*models, *stubs(server)}
    for pid in (server, *descendants(server)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    sweep(models)


def sweep(models: Iterable[Stub]) -> None:
    """What a server that has ended may leave behind: models' processes that hung, and their shared memory."""
    for stub in models:
        with contextlib.suppress(ProcessLookupError):
            if _stub(stub.pid) == stub:  # and not another process of this number
                os.kill(stub.pid, signal.SIGKILL)
        Path("/dev/shm", stub.region).unlink(missing_ok=True)


async def ended(pid: int) -> None:
    """Return when a process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, end.set)
    try:
        await end.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def reap_adopted(own: int) -> None:
    """Collect processes that were given to this one because their parent ended, as to the first process of a container.

    own: a child that somebody else waits for.
    """
    with contextlib.suppress(ChildProcessError):
        while (child := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and child.si_pid != own:
            os.waitpid(child.si_pid, 0)


def _numbers() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent(pid: int) -> int:
    """0 if the process has ended meanwhile."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _stub(pid: int) -> Stub | None:
    try:
        program, *arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return None
    if Path(program).name != _STUB:
        return None
    source, region = arguments[:2]  # …/MODEL/VERSION/model.py
    return Stub(Path(source).parts[-3], pid, region)
