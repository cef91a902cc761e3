"""The messages between parent and zygote, and the frames from a child.

Parent and zygote trust each other: they send messages with a length in front, JSON except for attempts. A child is not trusted:
it sends fixed frames with a nonce that only its own run knows. They are accepted in order, and nothing else is.
"""

from __future__ import annotations

import json
import struct
from typing import Any, NamedTuple

# The status of a frame, or of a line without one.
OK = 0  # the module or the statement ran to its end
ASSERTION = 1  # the line's own assert did not hold
RAISED = 2
VALUE = 3  # blind mode: the payload is the value, as text
OPAQUE = 4  # blind mode: a value that cannot be shown
TIMEOUT = 5
DIED = 6
TAMPERED = 7
_SENT_BY_CHILDREN = (OK, ASSERTION, RAISED, VALUE, OPAQUE)

# How a line is run.
WHOLE = 0  # tick mode: as the statement that it is
ASKED = 1  # blind mode: it is an expression, whose value is sent
SEARCHED = 2  # as ASKED; the line asks whether something is in the value

MAX_VALUE_BYTES = 60_000  # more than a test line can spell
USUAL_VALUE_BYTES = 4_000
MAX_LARGE_BYTES = 1 << 20  # of all values of one child that have more than USUAL_VALUE_BYTES

# Positions of frames.
READY = 0  # the child is locked down; nothing of the candidate has run yet
MODULE = 1
FIRST_LINE = 2

NONCE_BYTES = 16
FRAME = struct.Struct("<16sIBH")  # nonce, position, status, payload bytes
READ_BYTES = 1 << 14  # at a time: a larger buffer is its own memory mapping, made and faulted in for every read

_LENGTH = struct.Struct("<I")
_ATTEMPT = struct.Struct("<16sddi?I")  # an Attempt, with the number of bytes in place of its frames
_ATTEMPTS = b"\0"  # no JSON begins with this byte


class Tampered(Exception):
    """The child sent something that its runner never sends."""


class Attempt(NamedTuple):
    """What the zygote saw of one child."""

    nonce: bytes
    cpu_s: float
    wall_s: float
    status: int  # as waitpid returns it
    timed_out: bool
    frames: bytes  # what the child wrote


class FrameReader:
    """Parses a child's bytes. Raises Tampered at the first thing that does not fit.

    It expects a frame for READY, one for MODULE, and one for each line from `start` up to `end`.
    """

    def __init__(self, nonce: bytes, start: int, end: int) -> None:
        self._nonce = nonce
        self._positions = [READY, MODULE, *range(start + FIRST_LINE, end + FIRST_LINE)]
        self._rest = b""
        self._bytes_left = len(self._positions) * (FRAME.size + USUAL_VALUE_BYTES) + MAX_LARGE_BYTES
        self.frames: list[tuple[int, str]] = []  # status, payload; one for each position so far

    def feed(self, data: bytes) -> None:
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise Tampered
        data, start = self._rest + data, 0
        for expected in self._positions[len(self.frames) :]:
            if len(data) < start + FRAME.size:
                break
            nonce, position, status, length = FRAME.unpack_from(data, start)
            if nonce != self._nonce or position != expected or status not in _SENT_BY_CHILDREN:
                raise Tampered
            if length and (status != VALUE or length > MAX_VALUE_BYTES):
                raise Tampered
            end = start + FRAME.size + length
            if len(data) < end:
                break
            self.frames.append((status, _text(data[end - length : end]) if length else ""))
            start = end
        self._rest = data[start:]

    @property
    def complete(self) -> bool:
        return len(self.frames) == len(self._positions)

    def end(self) -> None:
        """Check, after the child ended, that it left neither half a frame nor one too many. Raises Tampered."""
        if self._rest:
            raise Tampered


def _text(payload: bytes) -> str:
    try:
        return payload.decode("ascii")
    except UnicodeDecodeError:
        raise Tampered from None


_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_decode = json.JSONDecoder().raw_decode  # no white space around it


def pack(message: Any) -> bytes:
    body = _encode(message).encode()
    return _LENGTH.pack(len(body)) + body


def pack_attempt(nonce: bytes, cpu_s: float, wall_s: float, status: int, timed_out: bool, frames: bytes | bytearray) -> bytes:
    """The fields of an Attempt."""
    return _ATTEMPT.pack(nonce, cpu_s, wall_s, status, timed_out, len(frames)) + frames


def pack_attempts(packed: list[bytes]) -> bytes:
    """One message that holds the packed attempts."""
    body = _ATTEMPTS + b"".join(packed)
    return _LENGTH.pack(len(body)) + body


def unpack(buffer: bytearray) -> list[Any]:
    """Remove all whole messages from the front of the buffer and return them. Raises ValueError if one is malformed."""
    messages: list[Any] = []
    while len(buffer) >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(buffer)
        if len(buffer) < _LENGTH.size + length:
            break
        body = bytes(buffer[_LENGTH.size : _LENGTH.size + length])
        messages.append(_attempts(body) if body.startswith(_ATTEMPTS) else _decode(body.decode())[0])
        del buffer[: _LENGTH.size + length]
    return messages


def _attempts(body: bytes) -> list[Attempt]:
    attempts, start = [], len(_ATTEMPTS)
    while start < len(body):
        if len(body) < start + _ATTEMPT.size:
            raise ValueError("half an attempt")
        *fields, length = _ATTEMPT.unpack_from(body, start)
        start += _ATTEMPT.size + length
        attempts.append(Attempt._make((*fields, body[start - length : start])))
    return attempts
