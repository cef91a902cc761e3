"""Calls of the C library and the kernel that Python does not wrap. Each raises an OSError that names the call."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Callable

from codecascade.sandbox.zygote import syscalls

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)
_holding_the_interpreter = ctypes.PyDLL(None, use_errno=True)
_ZERO = ctypes.c_ulong(0)
_table = syscalls.TABLES.get(os.uname().machine, {})


def _checked(result: int, what: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(name: str, *arguments: object) -> int:
    padded = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc.syscall(ctypes.c_long(_table[name]), *padded), name)


class Call:
    """A call of the C library whose arguments are made beforehand: whatever a child allocates costs pages."""

    def __init__(self, what: str, function: Callable[..., int], *arguments: object) -> None:
        self._what, self._function, self._arguments = what, function, arguments

    def __call__(self) -> None:
        """Raises OSError."""
        if self._function(*self._arguments) == -1:
            _checked(-1, self._what)


def prctl_call(option: int, value: int = 0) -> Call:
    return Call(f"prctl {option}", _libc.prctl, ctypes.c_int(option), ctypes.c_ulong(value), _ZERO, _ZERO, _ZERO)


def limit_call(name: str, value: int) -> Call:
    """Sets the soft and hard limit of the process that calls it. name: a constant of `resource`."""
    return Call(f"setrlimit {name}", _libc.setrlimit, getattr(resource, name), (ctypes.c_ulong * 2)(value, value))


def seccomp_call(operation: int, flags: int, program: object) -> Call:
    return Call(
        "seccomp", _libc.syscall, ctypes.c_long(_table["seccomp"]), ctypes.c_long(operation), ctypes.c_long(flags), program
    )


def return_free_memory() -> None:
    """Return the allocator's free pages: every fork would copy their page table entries. Does nothing without glibc."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)


def fork() -> int:
    """As os.fork, without Python's own work in the child (new locks, new seeds), which is most of what a fork costs.

    Only for processes with a single thread, where the child needs no repair.
    """
    return _checked(_holding_the_interpreter.fork(), "fork")


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    _checked(
        _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode() or None),
        f"mount {kind or 'bind'}",
    )


def unmount(target: str) -> None:
    _checked(_libc.umount2(target.encode(), MNT_DETACH), "umount")


def pivot_root(new: str, old: str) -> None:
    syscall("pivot_root", new.encode(), old.encode())


def drop_capabilities() -> None:
    """Remove all capabilities from all sets of this process, also for after an exec."""
    for capability in range(64):
        if _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) == -1:
            break  # past the last one, or not allowed to, and then there is nothing to drop
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(header, nothing), "capset")


def has_capability(number: int) -> bool:
    """Whether this process has capability `number` in its effective set."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    _checked(_libc.capget(header, sets), "capget")
    return bool(sets[(number // 32) * 3] >> (number % 32) & 1)
