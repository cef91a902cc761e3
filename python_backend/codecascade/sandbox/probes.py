"""Tests against live targets that a level keeps what it promises, and says what is missing if it is not available."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from codecascade.sandbox.limits import Limits
from codecascade.sandbox.worker import Worker, ZygoteDied, ZygoteRefused
from codecascade.sandbox.zygote import protocol

LEVELS = ("namespaces", "landlock", "sealed")
_UNISOLATED = "none"
_ANSWER_S = 60.0

# Each function returns "reached" if it reached its target. They call the C library, which needs no further import.
_PROGRAM = """
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)

def reached(fd):
    if fd >= 0:
        libc.close(fd)
    return "reached" if fd >= 0 else "refused"

def connects(family, address):
    fd = libc.socket(family, 1, 0)
    if fd < 0 or libc.connect(fd, address, len(address)) != 0:
        return "refused"
    return reached(fd)

def network():
    return connects(2, struct.pack("<HHBBBBQ", 2, {port_be}, 127, 0, 0, 1, 0))

def local_socket():
    return connects(1, struct.pack("<H", 1) + {abstract!r})

def secret():
    return reached(libc.open({secret!r}, 0))

def shared_folder():
    return reached(libc.open({created!r}, 0o101, 0o600))

def process():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "reached"

def other_process():
    return "reached" if libc.kill(os.getppid(), 0) == 0 else "refused"
"""
_PROPERTIES = {
    "network": "no network",
    "local_socket": "no local sockets",
    "secret": "no reading outside",
    "shared_folder": "no writing outside",
    "process": "no new process",
    "other_process": "no signal to others",
}

# The call that the zygote was refused → what allows it.
_REMEDIES = {
    "unshare": "give CAP_SYS_ADMIN, or allow user namespaces (sysctl user.max_user_namespaces above 0, "
    "kernel.apparmor_restrict_unprivileged_userns=0; in Docker a seccomp profile that allows unshare)",
    "mount": "give CAP_SYS_ADMIN under an AppArmor profile that allows mount (in Docker --security-opt apparmor=unconfined)",
    "uid_map": "allow user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=0)",
    "setresuid": "give CAP_SETUID and CAP_SETGID, or start as another user than root",
    "landlock_create_ruleset": "use Linux 5.13 or newer with landlock among the security modules (boot parameter lsm=landlock,…)",
    "seccomp": "use a kernel with CONFIG_SECCOMP_FILTER (Linux 4.17 or newer)",
}


@dataclass(frozen=True, slots=True)
class LevelReport:
    """Whether a level is available on this machine."""

    level: str
    available: bool
    missing: str = ""
    """What is missing, in words."""
    remedy: str = ""
    """The setting that would provide it, in words; empty if unknown."""

    def __str__(self) -> str:
        if self.available:
            return f"{self.level}: available"
        return f"{self.level}: {self.missing}" + (f"; to enable it, {self.remedy}" if self.remedy else "")


async def probe_levels(limits: Limits | None = None) -> tuple[LevelReport, ...]:
    """Probe each level on this machine, strongest first. Takes about 0.3 s."""
    limits = limits or Limits()
    return tuple([await probe_level(level, limits) for level in LEVELS])


async def probe_level(level: str, limits: Limits) -> LevelReport:
    """Run the same probes without isolation and at the level. They must reach their targets without it, and not at the level."""
    with _targets() as program:
        control, reached = await asyncio.gather(_reached(_UNISOLATED, limits, program), _reached(level, limits, program))
    if isinstance(reached, LevelReport):
        return reached
    if isinstance(control, LevelReport):
        return LevelReport(level, False, f"the probes do not run without isolation either ({control.missing})")
    ineffective = sorted(set(_PROPERTIES) - control)
    if ineffective:
        return LevelReport(level, False, f"the probe of {', '.join(ineffective)} reaches nothing even without isolation")
    if reached:
        broken = ", ".join(_PROPERTIES[name] for name in sorted(reached))
        return LevelReport(level, False, f"the level starts, but does not ensure: {broken}")
    return LevelReport(level, True)


async def _reached(level: str, limits: Limits, program: str) -> set[str] | LevelReport:
    """The names of the probes that reached their target, or why the level is not available."""
    names = list(_PROPERTIES)
    lines = [[True, f"{name}()"] for name in names]
    job = {"sources": [program], "lines": lines, "line_s": 5.0, "cpu_s": 5.0, "wall_stretch": limits.wall_stretch}
    try:
        worker = await Worker.start(level, limits)
    except ZygoteRefused as refusal:
        call = str(refusal).split(":")[0].split(" ")[0]
        return LevelReport(level, False, str(refusal), _REMEDIES.get(call, ""))
    except ZygoteDied:
        return LevelReport(level, False, "its interpreter ended while it locked itself down")
    try:
        (report,) = await worker.run(job, _ANSWER_S)
    except ZygoteDied:
        return LevelReport(level, False, "its interpreter ended while it was probed")
    finally:
        worker.kill()
    if report.module != protocol.OK:
        return LevelReport(level, False, "the probes themselves do not run")
    return {name for name, (status, text) in zip(names, report.lines, strict=True) if (status, text) == _REACHED}


_REACHED = (protocol.VALUE, '"reached"')


@contextlib.contextmanager
def _targets() -> Iterator[str]:
    """The probe program, with the addresses of live targets: listeners, a readable secret and a world-writable folder."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="codecascade-probe-"))
        os.chmod(folder, 0o1777)
        secret = os.path.join(folder, "secret")
        with open(secret, "w") as file:
            file.write("secret")
        os.chmod(secret, 0o644)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        local = stack.enter_context(socket.socket(socket.AF_UNIX))
        local.bind("")  # the kernel picks an abstract name
        local.listen()
        yield _PROGRAM.format(
            port_be=socket.htons(tcp.getsockname()[1]),
            abstract=local.getsockname(),
            secret=secret.encode(),
            created=os.path.join(folder, "created").encode(),
        )
