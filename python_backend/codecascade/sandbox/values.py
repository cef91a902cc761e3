"""Decodes the values that a child sends (zygote/child.py: _encode): JSON in which a list begins with a tag for its type."""

from __future__ import annotations

import json
from typing import Any

_MAX_DEPTH = 40


class NotAValue(Exception):
    """Text that this project's runner never sends."""


def decode(text: str) -> Any:
    """The value, made of exact builtin types. Raises NotAValue."""
    try:
        return _untagged(json.loads(text), 0)
    except (ValueError, TypeError, RecursionError) as error:
        raise NotAValue(str(error)) from None


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
    if tag == "b":
        return bytes.fromhex(*rest)
    if tag == "c":
        real, imaginary = rest
        return complex(float(real), float(imaginary))
    items = [_untagged(item, depth + 1) for item in rest]
    if tag == "d":
        return dict(zip(items[::2], items[1::2], strict=True))
    if tag in ("l", "t", "s"):
        return {"l": list, "t": tuple, "s": set}[tag](items)
    raise ValueError("unknown tag")
