"""What speaks against an infill, without running anything: the place where it stands must be code with it.

Each kind of evidence is a function of the place and of the middle. None needs the rest of the file, which editors leave out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from codecascade.texts.languages import language_of
from codecascade.texts.syntax import clean, syntax_fault
from codecascade.types import Task

_PYTHON = ("python", "python3", "py")
_TOLD_APART = 4  # characters, blanks left out, by which a line is known again
_TEXT = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'")
_BRACKET = re.compile(r"[()\[\]{}]")
_OPENS = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where an infill stands. Line feeds only."""

    before: str
    after: str
    python: bool

    @classmethod
    def of(cls, task: Task) -> Place:
        language = task.language.lower()
        return cls(
            clean(task.prompt),
            clean(task.suffix),
            language in _PYTHON if language else language_of(task.prompt if task.prompt.strip() else task.suffix) == "python",
        )

    @property
    def rest_of_line(self) -> str:
        return self.after.partition("\n")[0]

    def begins_suffix(self, line: str) -> bool:
        """Whether a line is the suffix's first line of code."""
        following = next((line for line in self.after.split("\n") if line.strip()), "").strip()
        return len("".join(following.split())) >= _TOLD_APART and line.strip() == following


def misfit(place: Place, middle: str) -> str | None:
    """What is wrong with an infill, in words; None: nothing that can be told."""
    if not middle.strip():
        return "the model writes nothing"
    if repeats_suffix(place, middle):
        return "it ends with what follows it"
    return does_not_parse(place, middle) if place.python else leaves_brackets_open(place, middle)


def repeats_suffix(place: Place, middle: str) -> bool:
    """Whether the middle has, at its end, the line that follows it."""
    return place.begins_suffix(middle.rstrip().rpartition("\n")[2])


def does_not_parse(place: Place, middle: str) -> str | None:
    """The first syntax error that the middle has a part in, in words. Errors elsewhere are the caller's.

    An editor sends a part of its file: the prefix may begin within a block, and the suffix may end anywhere.
    """
    begun = "if True:\n" if place.before[:1] in (" ", "\t") else ""
    start = begun + place.before + middle
    fault = syntax_fault(start + place.after)
    if fault is None:
        return None
    first = (begun + place.before).count("\n") + 1
    blank = len(place.after) - len(place.after.lstrip())
    last = (start + place.after[:blank]).count("\n") + 1
    return f"it does not parse: {fault.reason}" if first <= fault.line <= last else None


def leaves_brackets_open(place: Place, middle: str) -> str | None:
    """Whether more brackets lack their partner with the middle than without it. Needs no grammar."""
    without = _unmatched(place.before + place.after)
    more = _unmatched(place.before + middle + place.after) > without
    return "its brackets do not match those around it" if more else None


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
