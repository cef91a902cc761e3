"""What speaks against an infill, without running anything: the place where it stands must be code with it.

Each kind of evidence is a function of the place and of the middle. None needs the rest of the file, which editors leave out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from codecascade.texts.infills import Following, indentation
from codecascade.texts.languages import language_of
from codecascade.texts.names import unresolved_names
from codecascade.texts.syntax import SyntaxFault, clean, syntax_fault
from codecascade.types import Task

PYTHON = ("python", "python3", "py")
"""Names of the language, as editors have them."""
_TEXT = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'")
_JUMP = re.compile(r"\s*(?:return|raise|break|continue)\b")
_CODE_LINE = re.compile(r"^([ \t]*)[^\s#]", re.MULTILINE)
_HEADER = re.compile(r"[ \t]*(?:(?:async[ \t]+)?def|class)\b")
_STAR_IMPORT = re.compile(r"\bimport[ \t]*\*")
_STATEMENT = re.compile(r"(?<=\n)([ \t]*)[^\s#)\]}]")
_BRACKET = re.compile(r"[()\[\]{}]")
_OPENS = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where an infill stands. Line feeds only."""

    before: str
    after: str
    following: Following
    python: bool
    block: tuple[str, str]
    """The part of `before` and of `after` that is the function around the hole; all of them where there is none."""

    @classmethod
    def of(cls, task: Task) -> Place:
        language = task.language.lower()
        before, after = clean(task.prompt), clean(task.suffix)
        python = language in PYTHON if language else language_of(task.prompt if task.prompt.strip() else task.suffix) == "python"
        block = function_around(before, after) if python else (before, after)
        return cls(before, after, Following.of(before, after), python, block)

    @property
    def rest_of_line(self) -> str:
        return self.after.partition("\n")[0]


def misfit(place: Place, middle: str) -> str | None:
    """What an infill is wrong by wherever it stands, in words; None: nothing that can be told."""
    if not middle.strip():
        return "the model writes nothing"
    if repeats_suffix(place, middle):
        return "it ends with what follows it"
    return does_not_parse(place, middle) if place.python else leaves_brackets_open(place, middle)


def doubt(place: Place, middle: str) -> str | None:
    """What makes an infill that parses unlikely to be right, in words; None: nothing that can be told."""
    if not place.python:
        return None
    if leaves_unreachable(place, middle):
        return "what follows it is never reached"
    unbound = binds_too_little(place, middle)
    return f"nothing binds {', '.join(unbound)}" if unbound else None


def repeats_suffix(place: Place, middle: str) -> bool:
    """Whether the middle has, at its end, the line that follows it."""
    return place.following.is_in(middle.rstrip().rpartition("\n")[2])


def does_not_parse(place: Place, middle: str) -> str | None:
    """The first syntax error that the middle has a part in, in words. Errors elsewhere are the caller's.

    An editor sends a part of its file: the prefix may begin within a block, and the suffix may end anywhere.
    """
    fault, whole = _syntax_fault_around(*place.block, middle), (place.before, place.after)
    if fault and place.block != whole:
        fault = _syntax_fault_around(*whole, middle)
    if fault is None:
        return None
    start = _begun(place.before) + place.before
    below = fault.line - (start + middle).count("\n") - 1
    following = len(place.after[: len(place.after) - len(place.after.lstrip())].split("\n")) - 1
    is_in_it = fault.line > start.count("\n") and (below <= 0 or (below <= following and not _is_faulty(place.after, below)))
    return f"it does not parse: {fault.reason}" if is_in_it else None


def _syntax_fault_around(before: str, after: str, middle: str) -> SyntaxFault | None:
    return syntax_fault(f"{_begun(before)}{before}{middle}{after}")


def function_around(before: str, after: str) -> tuple[str, str]:
    """The parts of two texts that are the innermost function or class around what is between them."""
    lines = before.split("\n")
    margin = indentation(lines[-1]) or len(lines[-1])
    for number in range(len(lines) - 1, -1, -1):
        line = lines[number]
        if line.strip() and indentation(line) < margin:
            margin = indentation(line)
            if _HEADER.match(line):
                return "\n".join(lines[number:]), _until(after, margin)
    return before, after


def _until(after: str, margin: int) -> str:
    """The text before its first line that is indented by no more than a margin, if that begins a statement."""
    for line in _STATEMENT.finditer(after):
        if len(line[1]) <= margin:
            return after[: line.start()]
    return after


def _is_faulty(after: str, line: int) -> bool:
    """Whether a suffix has its first syntax error so many lines below its first, whatever stands before it."""
    begun, below = _begun(after.partition("\n")[2]), after.partition("\n")[2]
    fault = syntax_fault(begun + below)
    return fault is not None and fault.line - begun.count("\n") == line


def _begun(text: str) -> str:
    """The headers of the blocks that a text begins in: it may end one after the other."""
    if text[:1] not in (" ", "\t", "\n"):
        return ""
    margins: list[str] = []
    for line in _CODE_LINE.finditer(text):
        if not margins or len(line[1]) < len(margins[-1]):
            margins.append(line[1])
        if not line[1]:
            break
    outer = {"", *margins[1:]} if margins and margins[0] else ()
    return "".join(f"{margin}if True:\n" for margin in sorted(outer, key=len))


def leaves_unreachable(place: Place, middle: str) -> bool:
    """Whether the middle ends with a statement below which its block never goes on, and the suffix goes on there."""
    last = (place.before.rpartition("\n")[2] + middle).rstrip().rpartition("\n")[2]
    following = next((line for line in place.after.split("\n")[1:] if line.strip() and not line.lstrip().startswith("#")), "")
    return (
        not place.rest_of_line.strip()
        and _JUMP.match(last) is not None
        and following != ""
        and indentation(last) == indentation(following)
    )


def binds_too_little(place: Place, middle: str) -> tuple[str, ...]:
    """The names that the middle, or its function below it, reads and nothing binds.

    Names that the caller's text has outside of that are bound somewhere. What reads like a function, a module, a class or a
    constant may be bound where the text no longer shows it.
    """
    if _STAR_IMPORT.search(place.before):
        return ()
    before, rest = place.block
    unbound = unresolved_names(f"{_begun(before)}{before}{middle}{rest}")
    known = place.before, place.after[len(rest) :]
    return tuple(
        name
        for name in unbound
        if not any(_mentions(text, name) for text in known) and (_mentions(middle, name) or _reads_variable(rest, name))
    )


def _reads_variable(text: str, name: str) -> bool:
    return name[0].islower() and re.search(rf"(?<![.@\w]){re.escape(name)}\b(?![.(])", text) is not None


def leaves_brackets_open(place: Place, middle: str) -> str | None:
    """Whether more brackets lack their partner with the middle than without it. Needs no grammar."""
    without = _unmatched(place.before + place.after)
    more = _unmatched(place.before + middle + place.after) > without
    return "its brackets do not match those around it" if more else None


def _mentions(text: str, name: str) -> bool:
    return name in text and re.search(rf"\b{re.escape(name)}\b", text) is not None


def _unmatched(text: str) -> int:
    """How many brackets of a text have no partner, those in its texts left out."""
    opened: list[str] = []
    closed = 0
    for bracket in _BRACKET.findall(_TEXT.sub("", text)):
        if bracket not in _OPENS:
            opened.append(bracket)
        elif opened and opened[-1] == _OPENS[bracket]:
            opened.pop()
        else:
            closed += 1
    return len(opened) + closed
