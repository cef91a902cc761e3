"""Reads code that does not parse as what it stands for: typesetters' characters, sessions, prose between lines.

Nothing here is used on code that parses. Everything takes hostile text: a line is looked at as far as MAX_LINE_CHARS.
"""

from __future__ import annotations

import keyword
import re

MAX_LINE_CHARS = 400

# Comments and strings, so that what is outside of them can be told.
PARTS = re.compile(
    r"(?P<comment>\#[^\n]*)"
    r"|(?P<triple>(?P<quotes>\"\"\"|''')(?:[^\\]|\\.)*?(?P<closed>(?P=quotes))|(?:\"\"\"|''').*)"
    r"|(?P<string>\"(?:[^\"\\\n]|\\.)*\"?|'(?:[^'\\\n]|\\.)*'?)"
    r"|(?P<typographic>[“”„‟][^“”„‟\n]*[“”„‟]|[‘’‚‛][^‘’‚‛\n]*[‘’‚‛])",  # noqa: RUF001
    re.DOTALL,
)
CHARACTERS = {
    **dict.fromkeys([0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000], " "),
    **dict.fromkeys([0xAD, *range(0x200B, 0x2010), 0x2060, 0xFEFF], ""),
    **dict.fromkeys(map(ord, "“”„‟"), '"'),
    **dict.fromkeys(map(ord, "‘’‚‛"), "'"),  # noqa: RUF001
}
"""Spaces and quotes that Python knows nothing of, and characters without width."""

_SPECIAL_TOKEN = re.compile(r"<\|[^|\n]{1,40}\|>")
_TYPED = re.compile(r"[ \t]*(?:>>>|In \[\d+\]:) ?(.*)")
_TYPED_ON = re.compile(r"[ \t]*\.\.\.:? ?(.*)")
_DEFINITION = re.compile(r"^[ \t]*(?:def|class|return|async)\b", re.MULTILINE)

# A line of prose has what no line of Python has: two operands side by side, a contraction, a word that ends in a full stop …
_OPERANDS = re.compile(r"(\b[^\W\d]\w*|\b\d[\w.]*|[)\]])[ \t]+(?=([^\W\d]\w*|\d\w*))")
_NO_OPERANDS = frozenset((*keyword.kwlist, "match", "case", "type", "print", "exec", "_")) - {"None", "True", "False"}
_CONTRACTION = re.compile(r"[^'\"#]*\b(?:[A-Za-z]{2,}'(?:s|t|re|ve|ll|d)|I'(?:m|ve|ll|d))\b(?!')")
# Broken code is none: a line that a statement's word begins, or that gives something a value.
_BROKEN_CODE = re.compile(
    r"\s*(?:(?:return|def|class|import|raise|elif|yield|assert|del|global|nonlocal)\b|\w+(?:[ \t]\w+)?[ \t]*[-+*/|&%]?=(?!=))"
)
_PROSE = re.compile(
    r"\s*(?:"
    r"(?!(?:else|try|finally)\b)[^\W\d]\w*(?:[!?…]|\.{1,3}|:)\s*$"  # Sure!
    r"|[-=*_~`]{3,}\s*$"  # a rule, a fence
    r"|\*\*.*\*\*|\|.*\|\s*$|>(?!>)"  # bold, a table, a quotation
    r"|[-*+]\s+(?:[^\W\d]\w*[.:]?\s*$|[A-Z`*])|\d+[.)]\s"  # an item of a list
    r"|</?\w+>\s*$|\[/?[A-Z]+\]\s*$"  # a tag
    r"|%%?[A-Za-z]"  # what a notebook is told
    r"|.*(?:[^\x00-\x7f\w]|[`$?]|!(?!=)|</\w)"  # a character that Python has no use for
    r")"
)


def repaired(code: str) -> str:
    """Code that does not parse, read as what it stands for.

    Spaces and quotes of typesetters become Python's, a session at Python's prompt becomes what was typed, prose and what a
    notebook or a shell is told goes.
    """
    if not code.isascii() or "<|" in code:
        code = plain_characters(code)
    if ">>>" in code or "In [" in code:
        code = _typed(code)
    return _without_prose(code)


def is_prose(line: str) -> bool:
    """Whether a line can be no line of Python."""
    plain = plain_characters(line[:MAX_LINE_CHARS])
    return _says_something(plain, _outside_strings(plain)[0])


def _is_prose(line: str) -> bool:
    """Whether a line can be no line of Python. line: without strings and comments."""
    line = line[:MAX_LINE_CHARS]
    if _PROSE.match(line):
        return True
    if _BROKEN_CODE.match(line):
        return False
    return any(not {left, right} & _NO_OPERANDS for left, right in _OPERANDS.findall(line))


def open_string(code: str) -> str | None:
    """The quotes of a string over several lines that the code opens and does not end."""
    if '"""' not in code and "'''" not in code:
        return None
    opened = (match["triple"][:3] for match in PARTS.finditer(code) if match["triple"] and not match["closed"])
    return next(opened, None)


def plain_characters(code: str) -> str:
    """The code with the spaces and quotes of typesetters as Python's and no special tokens, outside of strings and comments."""
    pieces, position = [], 0
    for match in PARTS.finditer(code):
        pieces.append(_SPECIAL_TOKEN.sub("", code[position : match.start()].translate(CHARACTERS)))
        pieces.append(_python_string(match.group()) if match["typographic"] else match.group())
        position = match.end()
    return "".join([*pieces, _SPECIAL_TOKEN.sub("", code[position:].translate(CHARACTERS))])


def _python_string(quoted: str) -> str:
    inner = quoted[1:-1]
    quote = "'" if '"' in inner and "'" not in inner else '"'
    return quote + inner.replace(quote, f"\\{quote}") + quote


def _outside_strings(code: str) -> list[str]:
    """The lines of the code without its comments, with `''` for each string. Lines within a string are empty."""

    def shortened(match: re.Match[str]) -> str:
        return "" if match["comment"] else "''" + "\n" * match.group().count("\n")

    return PARTS.sub(shortened, code).split("\n")


def _typed(code: str) -> str:
    """What was typed in a session at Python's prompt, or else the code without a session that tries it out."""
    typed: list[str] = []
    others: list[str] = []
    session = False
    for line, outside in zip(code.split("\n"), _outside_strings(code), strict=True):
        match = _TYPED.match(line) if _TYPED.match(outside) else _TYPED_ON.match(line) if session else None
        session = match is not None
        (typed if match else others).append(match.group(1) if match else line)
    if not typed:
        return code
    program, rest = "\n".join(typed), "\n".join(others)
    return program if _DEFINITION.search(program) or not _DEFINITION.search(rest) else rest


def _without_prose(code: str) -> str:
    lines = zip(code.split("\n"), _outside_strings(code), strict=True)
    return "\n".join(line for line, outside in lines if not (outside.strip() and _says_something(line, outside)))


def _says_something(line: str, outside: str) -> bool:
    return _is_prose(outside) or _CONTRACTION.match(line[:MAX_LINE_CHARS]) is not None
