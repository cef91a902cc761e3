"""The user that the sandbox runs as."""

from __future__ import annotations

import os
from typing import NamedTuple

# Not `nobody`: other services run as nobody too, and processes of one user may signal and trace each other.
_DEDICATED = 64_107


class User(NamedTuple):
    uid: int
    gid: int


def sandbox_user() -> User:
    """A user of its own if started as root, else the current user."""
    if os.geteuid() == 0:
        return User(_DEDICATED, _DEDICATED)
    return User(os.geteuid(), os.getegid())


def become(user: User) -> None:
    """Change to this user for good. Raises OSError if root is not allowed to change its user."""
    if os.geteuid() != 0:
        return
    try:
        os.setgroups([])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as error:
        raise OSError(error.errno, f"setresuid: {error.strerror}") from None
