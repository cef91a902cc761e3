"""The tables of system calls agree with the kernel's headers."""

from __future__ import annotations

import fcntl
import re
import socket
import termios
from pathlib import Path

import pytest
from codecascade.sandbox.zygote import seccomp, syscalls

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),  # arm64 uses the generic numbers
}


def numbers(header: Path) -> dict[str, int]:
    defined = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)\s*$", header.read_text(), re.MULTILINE)
    table = {name: int(number) for name, number in defined}
    table.setdefault("newfstatat", table.get("fstatat", -1))  # one call, two names
    return table


@pytest.mark.parametrize("machine", HEADERS)
def test_numbers_are_the_kernels(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip(f"{HEADERS[machine]} is not installed (linux-libc-dev)")
    kernel = numbers(HEADERS[machine])
    assert syscalls.TABLES[machine] == {name: kernel[name] for name in syscalls.TABLES[machine]}


def test_every_call_that_is_allowed_or_taken_away_is_known() -> None:
    names = {*syscalls.COMPUTE, *syscalls.READ_PATHS, *syscalls.WRITE_PATHS, *syscalls.SUPERVISE}
    assert names <= set(syscalls.X86_64)


def test_arm64_lacks_only_calls_that_have_a_newer_form() -> None:
    older = {
        "dup2",
        "poll",
        "select",
        "pipe",
        "getpgrp",
        "time",
        "open",
        "stat",
        "lstat",
        "access",
        "readlink",
        "unlink",
        "rmdir",
    }
    older |= {"mkdir", "rename", "fork", "vfork", "chmod", "epoll_wait"}
    assert set(syscalls.X86_64) - set(syscalls.ARM64) == older


def test_a_child_loses_what_only_its_zygote_needs() -> None:
    program = seccomp.child_filter(["fork", "kill"])
    assert [operand for code, _, _, operand in program if code == 0x15] == sorted(syscalls.numbers(["fork", "kill"]))


def test_commands_that_are_allowed_are_the_harmless_ones() -> None:
    assert set(seccomp.FCNTL) == {fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL}
    assert set(seccomp.IOCTL) == {termios.TCGETS, termios.FIOCLEX, termios.FIONCLEX, termios.FIONREAD, termios.FIONBIO}


def test_the_pairs_of_sockets_that_are_allowed_are_streams_within_a_process() -> None:
    flags = (0, socket.SOCK_CLOEXEC, socket.SOCK_NONBLOCK, socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    assert socket.AF_UNIX == seccomp.PAIR_FAMILY
    assert set(seccomp.PAIR_TYPES) == {socket.SOCK_STREAM | flag for flag in flags}
