"""Describes a value as JSON, so that the trusted parent can compare it (values.py decodes it).

Runs in the child, beside code that may do anything. That code can have any description sent, but none that says "equal to
whatever you expect": only what a value is, never how it compares. A value that its own class compares is described as such.
"""

import builtins
import sys
from collections import Counter, OrderedDict, defaultdict
from json import JSONEncoder
from typing import Any

from codecascade.sandbox.zygote.protocol import MAX_LARGE_BYTES, MAX_VALUE_BYTES, USUAL_VALUE_BYTES

__builtins__ = dict(builtins.__dict__)  # type: ignore[assignment]  # as in child.py

_MAX_NODES = 10_000  # more than a test line can spell; the same holds for the depth and for MAX_VALUE_BYTES
_MAX_DEPTH = 200
_MAX_ITERATED = 1_000  # items of something that may be endless and is searched
_MAX_DIGITS = 5_000  # of a Decimal, and of its exponent's size
_LONG_BITS = 4_096  # longer numbers travel in hexadecimal, which Python reads without a limit

_EXACT = frozenset({type(None), bool, int, float, complex, str, bytes, list, tuple, set, dict})
_KEYS: type = type({}.keys())
_ITEMS: type = type({}.items())
# Whatever compares equal to a set is sent as one.
_TAGS: dict[type, str] = {list: "l", tuple: "t", set: "s", frozenset: "s", _KEYS: "s", _ITEMS: "s"}
_DICTS = (dict, Counter, OrderedDict, defaultdict)
_KINDS: dict[type, str] = {kind: kind.__name__ for kind in _EXACT if kind is not type(None)}

_EQUAL, _ORDER, _CONTAIN, _NUMBER, _TRUTH = "equal", "order", "contain", "number", "truth"
_OPERATORS = {
    **dict.fromkeys(("__eq__", "__ne__"), _EQUAL),
    **dict.fromkeys(("__lt__", "__le__", "__gt__", "__ge__"), _ORDER),
    **dict.fromkeys(("__contains__", "__iter__", "__getitem__"), _CONTAIN),
    **dict.fromkeys(("__sub__", "__rsub__", "__abs__", "__round__", "__float__", "__index__"), _NUMBER),
    **dict.fromkeys(("__bool__", "__len__"), _TRUTH),  # which is asked, and sent
}
_PLAIN_VALUES: dict[type, Any] = {
    int: int.__index__,
    float: float.__float__,
    complex: lambda value: complex(value.real, value.imag),
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    bytearray: lambda value: bytes(value),
    memoryview: lambda value: value.tobytes(),
    list: lambda value: [*list.__iter__(value)],
    tuple: lambda value: (*tuple.__iter__(value),),
    set: lambda value: {*set.__iter__(value)},
    frozenset: lambda value: {*frozenset.__iter__(value)},
    dict: lambda value: dict(dict.items(value)),
    OrderedDict: lambda value: dict(dict.items(value)),
    Counter: lambda value: dict(dict.items(value)),
    type(type.__dict__): dict,
}
_EQUAL_TO_ANYTHING = ("collections.abc", "unittest.mock")  # modules of classes that may equal a literal
_STDLIB = sys.stdlib_module_names
_dumps = JSONEncoder(check_circular=False).encode

# These read a class without running a line of it or of its metaclass.
_bases: Any = type.__dict__["__mro__"].__get__
_names: Any = type.__dict__["__dict__"].__get__
_module: Any = type.__dict__["__module__"].__get__
_name: Any = type.__dict__["__name__"].__get__


_large_bytes_left = [MAX_LARGE_BYTES]


class _TooLarge(Exception):
    pass


def describe(value: Any, searched: bool) -> bytes:
    """searched: the line asks whether something is in the value. Raises ValueError where nothing can be sent."""
    kind = type(value)
    try:
        if kind in _EXACT:
            text = _dumps(_tagged(value, [_MAX_NODES], 0))
        elif searched and _compares_as(kind) is None and _is_searched_by_its_items(kind):
            text = _beginning(value, kind)
        else:
            text = _dumps(["k", _kinds(kind), _tagged(value, [_MAX_NODES], 0)])
        if len(text) <= USUAL_VALUE_BYTES:
            return text.encode()
        if len(text) > MAX_VALUE_BYTES:
            raise _TooLarge
    except (_TooLarge, RecursionError):
        if searched and kind is not str:
            text = _beginning(value, kind)
        else:
            text = _dumps(["k", _kinds(kind), ["?", _truth(value), [_ORDER, _CONTAIN, _NUMBER]]])
    _large_bytes_left[0] -= len(text)
    if _large_bytes_left[0] < 0:
        raise ValueError("too many large values")
    return text.encode()


def _tagged(value: Any, nodes_left: list[int], depth: int) -> Any:
    nodes_left[0] -= 1
    if nodes_left[0] < 0 or depth > _MAX_DEPTH:
        raise _TooLarge
    kind = type(value)
    if value is None or kind in (bool, float):
        return value
    if kind is int:
        return value if value.bit_length() <= _LONG_BITS else ["i", _hexadecimal(value)]
    if kind in (str, bytes):
        if len(value) > MAX_VALUE_BYTES:
            raise _TooLarge
        return value if kind is str else ["b", value.hex()]
    if kind is complex:
        return ["c", value.real, value.imag]
    if kind in _TAGS:
        return [_TAGS[kind], *[_tagged(item, nodes_left, depth + 1) for item in value]]
    if kind in _DICTS:
        pairs = dict.items(value)
        return ["d", *[_tagged(item, nodes_left, depth + 1) for pair in pairs for item in pair]]
    return _other(value, kind, nodes_left, depth)


def _hexadecimal(value: int) -> str:
    if value.bit_length() > 4 * MAX_VALUE_BYTES:
        raise _TooLarge
    return hex(value)


def _kinds(kind: type) -> list[str]:
    return [_KINDS[base] for base in _bases(kind) if base in _KINDS]


def _other(value: Any, kind: type, nodes_left: list[int], depth: int) -> Any:
    base = _compares_as(kind)
    if base in _PLAIN_VALUES:
        return _tagged(_PLAIN_VALUES[base](value), nodes_left, depth)
    if base is not None:
        return _LIBRARY[_full_name(base)](value, nodes_left, depth)
    if any(_full_name(base) == "numpy.generic" for base in _bases(kind)) and type(plain := value.item()) is not kind:
        return _tagged(plain, nodes_left, depth)
    return ["?", _truth(value), sorted(_own_operators(kind))]


def _full_name(kind: type) -> str:
    return f"{_module(kind)}.{_name(kind)}"


def _compares_as(kind: type) -> Any:
    """The class of the library that decides how values of this class compare, if their values can be sent."""
    for base in _bases(kind):
        if _is_sent_by_value(base):
            return base
        if not _OPERATORS.keys().isdisjoint(_names(base)) and base is not object:
            return None
    return None


def _is_sent_by_value(kind: type) -> bool:
    return kind in _PLAIN_VALUES or _full_name(kind) in _LIBRARY


def _own_operators(kind: type) -> set[str]:
    """The groups of operators of which only the object's own code knows what they answer.

    An object of the library that is not sent by value equals no literal, nor does one without a comparison of its own.
    """
    own: set[str] = set()
    for base in _bases(kind):
        if _is_sent_by_value(base):
            return {_EQUAL, _ORDER, _CONTAIN, _NUMBER}
        if base is not object:
            known = {_TRUTH} if not _is_library(base) else {_TRUTH, _EQUAL, _ORDER, _NUMBER}
            own |= {
                _OPERATORS[name] for name, value in _names(base).items() if name in _OPERATORS and not _is_generated(base, value)
            } - known
    return own


def _is_library(kind: type) -> bool:
    module = str(_module(kind))
    return module.split(".")[0] in _STDLIB and module not in _EQUAL_TO_ANYTHING


def _is_generated(kind: type, method: Any) -> bool:
    """Whether a dataclass's own comparison, which knows its own class alone."""
    code = getattr(method, "__code__", None)
    return "__dataclass_fields__" in _names(kind) and code is not None and code.co_filename == "<string>"


def _truth(value: Any) -> bool | None:
    """None if it raises."""
    try:
        return True if value else False  # noqa: SIM210 - bool(value) is the candidate's to replace
    except Exception:
        return None


def _is_searched_by_its_items(kind: type) -> bool:
    """Whether `in` looks at the items, and not where a method of the object says."""
    names = [name for base in _bases(kind) for name in _names(base)]
    return "__contains__" not in names and ("__iter__" in names or "__getitem__" in names)


def _beginning(value: Any, kind: type) -> str:
    """The first items; if these are all, a sequence."""
    texts: list[str] = []
    tag, size, nodes_left = "q", 64, [_MAX_NODES]
    limit = _MAX_NODES if kind in _EXACT else _MAX_ITERATED
    for item in value:
        try:
            text = _dumps(_tagged(item, nodes_left, 1))
        except _TooLarge:
            text = ""
        size += len(text) + 1
        if not text or size > MAX_VALUE_BYTES or len(texts) == limit:
            tag = "p"
            break
        texts.append(text)
    return f'["k",{_dumps(_kinds(kind))},[{",".join([_dumps(tag), *texts])}]]'


def _sequence(value: Any, nodes_left: list[int], depth: int) -> Any:
    return ["q", *[_tagged(item, nodes_left, depth + 1) for item in value]]


def _set(value: Any, nodes_left: list[int], depth: int) -> Any:
    return ["s", *[_tagged(item, nodes_left, depth + 1) for item in value]]


def _range(value: Any, nodes_left: list[int], depth: int) -> Any:
    return ["r", *[_tagged(number, nodes_left, depth + 1) for number in (value.start, value.stop, value.step)]]


def _decimal(value: Any, nodes_left: list[int], depth: int) -> Any:
    text = str(value)
    if len(text) > _MAX_DIGITS or (value.is_finite() and abs(value.adjusted()) > _MAX_DIGITS):
        return ["?", _truth(value), [_EQUAL, _ORDER, _NUMBER]]
    return ["D", text]


def _fraction(value: Any, nodes_left: list[int], depth: int) -> Any:
    return ["F", *[_tagged(number, nodes_left, depth + 1) for number in (value.numerator, value.denominator)]]


def _data(value: Any, nodes_left: list[int], depth: int) -> Any:
    return _tagged(value.data, nodes_left, depth)


def _mapping(value: Any, nodes_left: list[int], depth: int) -> Any:
    return _tagged(dict(value), nodes_left, depth)


_LIBRARY = {
    "builtins.range": _range,
    "builtins.dict_values": _sequence,
    "builtins.odict_items": _set,
    "builtins.odict_keys": _set,
    "builtins.odict_values": _sequence,
    "array.array": _sequence,
    "collections.deque": _sequence,
    "collections.ChainMap": _mapping,
    "collections.UserDict": _mapping,
    "collections.UserList": _data,
    "collections.UserString": _data,
    "decimal.Decimal": _decimal,
    "fractions.Fraction": _fraction,
}
