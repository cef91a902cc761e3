"""Landlock restricts which paths may be opened. It covers neither stat nor sockets other than TCP: seccomp does the rest."""

from __future__ import annotations

import ctypes
import os
import stat

from codecascade.sandbox.zygote import system

_CREATE_VERSION = 1
_RULE_PATH_BENEATH = 1
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_REMOVE_DIR = 1 << 4
_REMOVE_FILE = 1 << 5
_MAKE_DIR = 1 << 7
_MAKE_REG = 1 << 8
_REFER = 1 << 13
_TRUNCATE = 1 << 14

_OF_FILES = _READ_FILE | _WRITE_FILE | _TRUNCATE
_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE

_FS_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15}  # bits; 16 from ABI 5 on


def abi() -> int:
    """The kernel's Landlock version. Raises OSError if it has none."""
    return system.syscall("landlock_create_ruleset", None, 0, _CREATE_VERSION)


def restrict(readable: list[int], writable: list[int]) -> None:
    """Allow only these files and those beneath these folders (open descriptors) to be opened from now on. Raises OSError."""
    version = abi()
    handled = (1 << _FS_RIGHTS_BY_ABI.get(version, 16)) - 1
    net = 0b11 if version >= 4 else 0  # TCP bind, connect
    scoped = 0b11 if version >= 6 else 0  # abstract unix sockets, signals
    fields = (ctypes.c_uint64 * 3)(handled, net, scoped)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = system.syscall("landlock_create_ruleset", ctypes.byref(fields), size, 0)
    for folders, rights in ((readable, _READ), (writable, _WRITE)):
        for opened in folders:
            meaningful = handled if stat.S_ISDIR(os.fstat(opened).st_mode) else _OF_FILES
            rule = _PathBeneath(rights & handled & meaningful, opened)
            system.syscall("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    system.syscall("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]
