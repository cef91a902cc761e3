"""Who the sandbox runs as."""

from __future__ import annotations

import os
from typing import NamedTuple

# Not `nobody`: other services run as that one, and may be signalled or traced by whoever shares it.
_DEDICATED = 64_107


class User(NamedTuple):
    uid: int
    gid: int


def sandbox_user() -> User:
    """A user of its own when started as root, else the user it is started as."""
    if os.geteuid() == 0:
        return User(_DEDICATED, _DEDICATED)
    return User(os.geteuid(), os.getegid())


def become(user: User) -> None:
    """Drop to this user for good. Raises OSError where root may not change its user."""
    if os.geteuid() != 0:
        return
    try:
        os.setgroups([])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as error:
        raise OSError(error.errno, f"setresuid: {error.strerror}") from None
