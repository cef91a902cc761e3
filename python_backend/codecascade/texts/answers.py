"""Finds the code in what a model wrote: models wrap it in prose and fences."""

from __future__ import annotations

import re
from collections.abc import Iterator

_FENCE = re.compile(r"^[ \t]*```+[ \t]*([\w+-]*)[^\n]*$", re.MULTILINE)
_PYTHON_TAGS = ("", "python", "python3", "py", "pycon")
_BODY = re.compile(r"\n*(?: {2,}|\t)\S")
_FIRST_STATEMENT = re.compile(r"^(?:import |from \S+ import |def |async def |class |@)", re.MULTILINE)


def code_in(text: str, name: str | None, in_block: bool) -> str:
    """The part of an answer that is code; `in_block`: the answer starts inside a code block."""
    fence = _FENCE.search(text) if "```" in text else None
    if in_block and not (fence and fence.group(1)):  # a fence with a language opens a block: what comes before it is prose
        head = text[: fence.start()] if fence else text
        if head.strip():
            return head
    blocks = list(_blocks(text)) if fence else []
    if blocks:
        return next((block for block in blocks if defines(block, name)), blocks[0])
    start = None if _BODY.match(text) else _FIRST_STATEMENT.search(text)
    return text[start.start() :] if start else text


def _blocks(text: str) -> Iterator[str]:
    """The Python code blocks. The last one may be unclosed."""
    fences = list(_FENCE.finditer(text))
    for opening, closing in zip(fences[::2], [*fences[1::2], None], strict=False):
        if opening.group(1).lower() in _PYTHON_TAGS:
            yield text[opening.end() + 1 : closing.start() if closing else len(text)]


def defines(code: str, name: str | None) -> bool:
    """Whether a line of the code is the function's header, at the margin."""
    if name is None or name not in code:
        return False
    return re.search(rf"^(?:async\s+)?def\s+{re.escape(name)}\s*\(", code, re.MULTILINE) is not None
