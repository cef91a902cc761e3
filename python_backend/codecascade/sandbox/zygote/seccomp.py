"""System call filters (classic BPF), in two stages.

The zygote loads a base filter that allows a list of calls and nothing else. Each child loads a short filter that removes what
only the zygote needs. Filters stack, and the stricter answer wins. A short filter loads faster, and every child has to load it.
"""

from __future__ import annotations

import ctypes
import errno

from codecascade.sandbox.zygote import syscalls, system

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_NUMBER, _ARCH = 0, 4  # offsets in struct seccomp_data

_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_ERRNO = 0x00050000

_X32_BIT = 0x40000000
_SET_MODE_FILTER = 1
_FLAG_SPEC_ALLOW = 4

# The allowed commands (second arguments) of these two calls. Others could signal a process, reach a device, or change a
# descriptor that the next child shares. FIONBIO can too: the zygote takes it back after each child.
FCNTL = (0, 1030, 1, 2, 3)  # F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL
IOCTL = (0x5401, 0x5451, 0x5450, 0x541B, 0x5421)  # TCGETS, FIOCLEX, FIONCLEX, FIONREAD, FIONBIO

# An event loop wakes itself up through a pair of sockets. AF_UNIX streams alone: one end of such a pair can be connected to
# nothing else, while a datagram socket can send to any address that its sender names.
PAIR_FAMILY = 1  # AF_UNIX
PAIR_TYPES = (1, 0x80001, 0x801, 0x80801)  # SOCK_STREAM, also with SOCK_CLOEXEC and SOCK_NONBLOCK

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def base_filter(allowed: list[str]) -> list[Instruction]:
    """Allow the named calls, some others with harmless arguments; refuse the rest; kill foreign architectures."""
    table = syscalls.TABLES[syscalls.machine()]
    program = _arch_check()
    for number in syscalls.numbers(allowed):
        program += _answer(number, _ALLOW)
    for name, commands in (("fcntl", FCNTL), ("ioctl", IOCTL)):
        program += _only(table[name], (_low(1), commands))
    program += _only(table["socketpair"], (_low(0), (PAIR_FAMILY,)), (_low(1), PAIR_TYPES))
    program += _only(table["sendto"], (_low(4), (0,)), (_high(4), (0,)))  # to no address but the other end
    program += _answer(table["clone3"], _ERRNO | errno.ENOSYS)  # the C library then falls back to clone
    return [*program, (_RETURN, 0, 0, _ERRNO | errno.EPERM)]


def child_filter(denied: list[str]) -> list[Instruction]:
    """Refuse the named calls and leave the rest to the base filter, which has checked the architecture."""
    program: list[Instruction] = [(_LOAD, 0, 0, _NUMBER)]
    numbers = syscalls.numbers(denied)
    for position, number in enumerate(numbers):
        program.append((_EQUAL, len(numbers) - position, 0, number))
    return [*program, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]


def loading(program: list[Instruction]) -> system.Call:
    """The call that loads a filter into this process and its later children."""
    instructions = (_SockFilter * len(program))(*[_SockFilter(*fields) for fields in program])
    return system.seccomp_call(_SET_MODE_FILTER, _FLAG_SPEC_ALLOW, ctypes.byref(_SockFprog(len(program), instructions)))


class _SockFilter(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class _SockFprog(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_SockFilter))]


def _arch_check() -> list[Instruction]:
    return [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, syscalls.AUDIT_ARCHES[syscalls.machine()]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _KILL),
    ]


def _answer(number: int, answer: int) -> list[Instruction]:
    return [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, answer)]


def _low(argument: int) -> int:
    """The offset of an argument's low half."""
    return 16 + 8 * argument


def _high(argument: int) -> int:
    return _low(argument) + 4


def _only(number: int, *conditions: tuple[int, tuple[int, ...]]) -> list[Instruction]:
    """Allow a call if at each offset there is one of the values."""
    inner: list[Instruction] = []
    for offset, values in conditions:
        inner.append((_LOAD, 0, 0, offset))
        inner += [(_EQUAL, len(values) - position, 0, value) for position, value in enumerate(values)]
        inner.append((_RETURN, 0, 0, _ERRNO | errno.EPERM))
    inner.append((_RETURN, 0, 0, _ALLOW))
    return [(_EQUAL, 0, len(inner), number), *inner]
