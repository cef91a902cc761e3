"""Makes a candidate of what a model wrote between a prefix and a suffix.

Models go on below the code that was missing: with the suffix once more, with tests, with an explanation. What is kept is the
longest start of the answer that fits where it is to stand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from codecascade.texts.fitting import Place, doubt, misfit
from codecascade.texts.infills import ends_with_its_line
from codecascade.texts.line_ends import line_end
from codecascade.texts.syntax import MAX_COMPLETION_CHARS, clean
from codecascade.types import Candidate, Task

_CHARS_TRIED = 150_000
"""Of all programs that are read for one answer."""
_TRIED = 12


def infill_candidate(task: Task, completion: str, *, cut: bool = False) -> Candidate:
    """The caller's text with the best reading of the completion in it. Raises nothing.

    cut: whether the token limit ended the completion.
    """
    place = Place.of(task)
    text = clean(completion[:MAX_COMPLETION_CHARS])
    readings = _readings(task, place, text)
    tries = min(_TRIED, 1 + _CHARS_TRIED // (len(place.before) + len(text) + len(place.after) + 1))
    best: _Reading | None = None
    for reading, _ in zip(readings, range(tries), strict=False):
        problem = misfit(place, reading.middle)
        if problem is None:
            best = reading
            break
        best = best or _Reading(reading.middle, reading.whole, problem)
    assert best is not None, "an answer has a reading"
    source = place.before + best.middle + place.after
    inserted = best.middle.replace("\n", line_end(task.prompt + task.suffix))
    return Candidate(source, inserted, best.problem or doubt(place, best.middle), cut and best.whole)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to read an answer."""

    middle: str
    whole: bool
    """Whether it has all that the model wrote, so that a token limit cut it."""
    problem: str | None = None


def _readings(task: Task, place: Place, text: str) -> Iterator[_Reading]:
    """Likeliest first."""
    if ends_with_its_line(task):
        yield from _one_line(place, text)
    else:
        yield from _lines(place, text)


def _one_line(place: Place, text: str) -> Iterator[_Reading]:
    """The first line, as it is and without what the rest of the line has once more."""
    line, line_feed, _ = text.partition("\n")
    yield _Reading(line, whole=not line_feed)
    rest = place.rest_of_line.rstrip()
    for shared in range(min(len(rest), len(line)), 0, -1):
        if line.endswith(rest[:shared]):
            yield _Reading(line[:-shared], whole=False)


def _lines(place: Place, text: str) -> Iterator[_Reading]:
    """As many lines as there are before the suffix begins again, then ever fewer."""
    lines = text.split("\n")
    again = next((number for number, line in enumerate(lines) if number and place.following.is_in(line)), len(lines))
    for count in range(again, 0, -1):
        if count == again or lines[count].strip():  # blank lines at the end say nothing
            yield _Reading("\n".join(lines[:count]).rstrip(), whole=count == len(lines))
