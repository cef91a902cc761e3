"""What a prompt is written in: Python, another language, or prose that asks for code."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from codecascade.texts.syntax import outline

_DEF = re.compile(r"(?:async\s+)?def\s+\w+\s*[\[(]")
_FROM = re.compile(r"from\s+[\w.]+\s+import\s+[\w(*]")
_BLOCK = re.compile(r"(?:class\s+\w|(?:if|elif|while|with|except)\b|for\s.*\sin\s|(?:else|try|finally|except):)")
_CODE = re.compile(r"[{}()\[\]<>=;\\|]|//|^\s*(?:#|--|@)", re.MULTILINE)
_SENTENCE_ENDS = (".", "?", "!", ":")


@lru_cache(maxsize=256)
def language_of(prompt: str) -> Literal["python", "prose", "other"]:
    """`python` also where this server's Python cannot parse it, if a line of it can be nothing else."""
    given = outline(prompt)
    if given.closed is not None or any(map(_is_python, given.code.split("\n"))):
        return "python"
    prose = given.code.rstrip().endswith(_SENTENCE_ENDS) and not _CODE.search(given.code)
    return "prose" if prose else "other"


def _is_python(line: str) -> bool:
    """Whether the line begins a block as Python does, or imports as it does."""
    code = line.partition("#")[0].strip()
    if _DEF.match(code):
        return code.endswith((":", "(", ",", "[")) or "):" in code or "->" in code
    if _BLOCK.match(code):
        return code.endswith(":") and "{" not in code and ";" not in code
    return _FROM.match(code) is not None
