"""Runs one candidate and its lines in the child, in the same interpreter as code that may do anything.

Nothing here is trusted: the parent's frame reader checks whatever arrives, and the parent compares the values. No verdict is
decided here that a candidate could not also get by being right.
"""

import builtins
import sys
from collections import Counter, OrderedDict, defaultdict
from json import dumps
from os import write
from types import ModuleType
from typing import Any

from codecascade.sandbox.zygote.protocol import ASSERTION, FIRST_LINE, FRAME, MAX_VALUE_BYTES, MODULE, OK, OPAQUE, RAISED, VALUE

# This module's functions keep their own builtins: a candidate that replaces `exec` or `type` changes only its own.
_BUILTINS = dict(builtins.__dict__)
_LINE_BUILTINS = dict(_BUILTINS)
__builtins__ = _BUILTINS  # type: ignore[assignment]

_MAX_NODES = 200
_MAX_DEPTH = 40
_DICTS = (dict, Counter, OrderedDict, defaultdict)
# Whatever compares equal to a set is sent as one.
_TAGS: dict[type, str] = {list: "l", tuple: "t", set: "s", frozenset: "s", type({}.keys()): "s", type({}.items()): "s"}
_pack = FRAME.pack
_settrace, _setprofile, _modules = sys.settrace, sys.setprofile, sys.modules


class _Opaque(Exception):
    pass


def run(source: str, lines: list[list[Any]], start: int, nonce: bytes, channel: int) -> None:
    """Run the module and the lines from `start` on; send one frame for each. lines: [blind, text] each."""
    module = ModuleType("candidate")
    _modules["candidate"] = module
    space = module.__dict__
    status = _execute(source, space)
    write(channel, _pack(nonce, MODULE, status, 0))
    if status != OK:
        return
    for position in range(start, len(lines)):
        blind, text = lines[position]
        _settrace(None)
        _setprofile(None)
        # The line sees the candidate's names and untouched builtins.
        line_space = dict(space)
        line_space["__builtins__"] = _LINE_BUILTINS
        if blind:
            status, payload = _evaluate(text, line_space)
            write(channel, _pack(nonce, position + FIRST_LINE, status, len(payload)) + payload)
        else:
            write(channel, _pack(nonce, position + FIRST_LINE, _assert(text, line_space), 0))


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


def _evaluate(text: str, space: dict[str, Any]) -> tuple[int, bytes]:
    try:
        value = eval(compile(text, "<line>", "eval", dont_inherit=True), space)
        try:
            return VALUE, _encode(value)
        except (_Opaque, ValueError, RuntimeError):
            return OPAQUE, b""
    except BaseException:
        return RAISED, b""


def _encode(value: Any) -> bytes:
    """JSON that keeps Python's types: scalars as they are, the rest as lists with a tag. Raises _Opaque."""
    text = dumps(_tagged(value, [_MAX_NODES], 0)).encode()
    if len(text) > MAX_VALUE_BYTES:
        raise _Opaque
    return text


def _tagged(value: Any, nodes_left: list[int], depth: int) -> Any:
    """Takes exact builtin types only: a subclass may define its own comparison."""
    nodes_left[0] -= 1
    if nodes_left[0] < 0 or depth > _MAX_DEPTH:
        raise _Opaque
    kind = type(value)
    if value is None or kind in (bool, int, float):
        return value
    if kind in (str, bytes) and len(value) <= MAX_VALUE_BYTES:
        return value if kind is str else ["b", value.hex()]
    if kind is complex:
        return ["c", value.real, value.imag]
    if kind in _TAGS:
        return [_TAGS[kind], *[_tagged(item, nodes_left, depth + 1) for item in value]]
    if kind in _DICTS:
        pairs = dict.items(value)
        return ["d", *[_tagged(item, nodes_left, depth + 1) for pair in pairs for item in pair]]
    raise _Opaque
