"""Runs one candidate and its lines in the child, in the same interpreter as code that may do anything.

Nothing here is trusted: the parent's frame reader checks whatever arrives, and the parent compares the values. No verdict is
decided here that a candidate could not also get by being right.
"""

import builtins
import sys
from os import write
from types import ModuleType
from typing import Any

from codecascade.sandbox.zygote.describe import describe
from codecascade.sandbox.zygote.protocol import (
    ASSERTION,
    FIRST_LINE,
    FRAME,
    MODULE,
    OK,
    OPAQUE,
    RAISED,
    SEARCHED,
    VALUE,
    WHOLE,
)

# This module's functions keep their own builtins: a candidate that replaces `exec` or `type` changes only its own.
_BUILTINS = dict(builtins.__dict__)
_LINE_BUILTINS = dict(_BUILTINS)
__builtins__ = _BUILTINS  # type: ignore[assignment]

_pack = FRAME.pack
_settrace, _setprofile, _modules = sys.settrace, sys.setprofile, sys.modules


def run(source: str, lines: list[list[Any]], start: int, nonce: bytes, channel: int) -> None:
    """Run the module and the lines from `start` on; send one frame for each. lines: [how, text] each."""
    module = ModuleType("candidate")
    _modules["candidate"] = module
    space = module.__dict__
    status = _execute(source, space)
    write(channel, _pack(nonce, MODULE, status, 0))
    if status != OK:
        return
    for position in range(start, len(lines)):
        how, text = lines[position]
        _settrace(None)
        _setprofile(None)
        # The line sees the candidate's names and untouched builtins.
        line_space = dict(space)
        line_space["__builtins__"] = _LINE_BUILTINS
        if how == WHOLE:
            write(channel, _pack(nonce, position + FIRST_LINE, _assert(text, line_space), 0))
        else:
            status, payload = _evaluate(text, line_space, how == SEARCHED)
            frame = _pack(nonce, position + FIRST_LINE, status, len(payload)) + payload
            while (written := write(channel, frame)) < len(frame):  # larger than the channel holds
                frame = frame[written:]


def _execute(text: str, space: dict[str, Any]) -> int:
    try:
        exec(compile(text, "<code>", "exec", dont_inherit=True), space)
    except BaseException as error:
        return ASSERTION if type(error) is AssertionError else RAISED
    return OK


def _assert(text: str, space: dict[str, Any]) -> int:
    """As _execute, but an assertion that fails in the candidate's own code is an error of the candidate."""
    try:
        exec(compile(text, "<line>", "exec", dont_inherit=True), space)
    except BaseException as error:
        if type(error) is AssertionError and error.__traceback__.tb_next.tb_next is None:  # type: ignore[union-attr]
            return ASSERTION
        return RAISED
    return OK


def _evaluate(text: str, space: dict[str, Any], searched: bool) -> tuple[int, bytes]:
    try:
        value = eval(compile(text, "<line>", "eval", dont_inherit=True), space)
        try:
            return VALUE, describe(value, searched)
        except (ValueError, RuntimeError):
            return OPAQUE, b""
    except BaseException:
        return RAISED, b""
