"""Decodes the values that a child describes (zygote/describe.py): JSON in which a list begins with a tag for its type."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

BUILTIN_TYPES = {kind.__name__: kind for kind in (bool, int, float, complex, str, bytes, list, tuple, set, dict)}
_MAX_DEPTH = 210
_MAX_DIGITS = 5_000  # of a Decimal, and of its exponent's size: it may become an int here
_MAX_STEPS = 10_000  # of a range in which something other than an int is looked for


class NotAValue(Exception):
    """Text that this project's runner never sends."""


class Unknown(Exception):
    """Only the candidate's own code could say what is asked of a value."""


@dataclass(frozen=True, slots=True, eq=False)
class Typed:
    """A value that is no exact builtin object."""

    value: Any
    """What it compares as."""
    kinds: tuple[type, ...]
    """The builtin types that it is an instance of."""


class Thing:
    """An object that is not sent by value. It equals nothing else, has no order, and nothing is in it, unless that is unknown."""

    def __init__(self, truth: bool | None, unknown: Iterable[str]) -> None:
        self._truth, self._unknown = truth, frozenset(unknown)

    def __bool__(self) -> bool:
        self._check("truth")
        if self._truth is None:
            raise TypeError("its truth raised an exception")
        return self._truth

    def __eq__(self, other: object) -> bool:
        self._check("equal")
        return self is other

    def __hash__(self) -> int:
        self._check("equal")
        return id(self)

    def __contains__(self, item: object) -> bool:
        self._check("contain")
        raise TypeError("it holds nothing")

    def _ordered(self, other: object) -> Any:
        self._check("order")
        return NotImplemented

    def _calculated(self, *_: object) -> Any:
        self._check("number")
        raise TypeError("it is not a number")

    __lt__ = __le__ = __gt__ = __ge__ = _ordered
    __sub__ = __rsub__ = __abs__ = __round__ = __float__ = _calculated

    def _check(self, what: str) -> None:
        if what in self._unknown:
            raise Unknown


NOT_DESCRIBED = Thing(None, ("truth", "equal", "contain", "order", "number"))


class Beginning(Thing):
    """The first items of something endless or large. All that can be asked is what is in it."""

    def __init__(self, items: list[Any]) -> None:
        super().__init__(None, ("truth", "equal", "order", "number"))
        self._items = items

    def __contains__(self, item: object) -> bool:
        if item in self._items:
            return True
        raise Unknown


def decode(text: str) -> Any:
    """The value: exact builtin objects, or a Typed. Raises NotAValue, Unknown."""
    try:
        node = json.loads(text)
        if isinstance(node, list) and node[:1] == ["k"]:
            _, kinds, inner = node
            return Typed(_untagged(inner, 0), tuple([BUILTIN_TYPES[kind] for kind in kinds]))
        return _untagged(node, 0)
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError) as error:
        raise NotAValue(str(error)) from None


def contains(holder: Any, item: Any) -> bool:
    """As Python's `in`, which would walk through a range for anything but an int. Raises Unknown instead of a long walk."""
    if type(holder) is range and type(item) not in (int, bool) and len(holder[:_MAX_STEPS]) == _MAX_STEPS:
        raise Unknown
    return item in holder


def _untagged(node: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError("too deep")
    if not isinstance(node, list):
        if isinstance(node, dict):
            raise ValueError("an object is not a value")
        return node
    if not node:
        raise ValueError("no tag")
    tag, *rest = node
    if tag in _FROM_ITEMS:
        return _FROM_ITEMS[tag]([_untagged(item, depth + 1) for item in rest])
    return _FROM_PARTS[tag](*rest)


def _dict(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _numbers(make: Callable[..., Any]) -> Callable[[list[Any]], Any]:
    def from_items(items: list[Any]) -> Any:
        if not all(type(item) is int for item in items):
            raise ValueError("not whole numbers")
        return make(*items)

    return from_items


def _decimal(text: str) -> Decimal:
    if len(text) > _MAX_DIGITS:
        raise ValueError("too many digits")
    number = Decimal(text)
    if number.is_finite() and abs(number.adjusted()) > _MAX_DIGITS:
        raise ValueError("too large an exponent")
    return number


_FROM_ITEMS: dict[str, Callable[[list[Any]], Any]] = {
    "l": list,
    "t": tuple,
    "s": set,
    "d": _dict,
    "q": deque,
    "p": Beginning,
    "r": _numbers(range),
    "F": _numbers(Fraction),
}
_FROM_PARTS: dict[str, Callable[..., Any]] = {
    "b": bytes.fromhex,
    "c": lambda real, imaginary: complex(float(real), float(imaginary)),
    "i": lambda text: int(text, 16),
    "D": _decimal,
    "?": Thing,
}
