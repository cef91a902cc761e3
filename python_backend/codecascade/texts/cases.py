"""Cases of a program that reads standard input: what it is given, and what it has to print."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import dedent

from codecascade.errors import InvalidRequest

MAX_CASES = 1_000
_MAX_SAMPLES = 50
_MAX_LINES = 4_000  # of a text in which samples are looked for
_MAX_HEADING_CHARS = 200
_SHOWN_CHARS = 60
_SURROGATE = re.compile("[\ud800-\udfff]")
_HEADING = re.compile(
    r"\W*(?P<sample>(?:sample|example)s?\s+)?(?P<name>input|output|example|sample|explanation|note|constraint)s?"
    r"(?P<format>\s+(?:format|specification|description))?(?:[\s#]*\d+)?\s*(?P<colon>:?)[-=*#_`\s]*(?P<rest>.*)",
    re.IGNORECASE,
)
_RULED = re.compile(r"-{3,}[^-].*-{3,}|#{2,}\s.*")
_NUMBERS = re.compile(r"[-+]?\d[\d.,eE+-]*(?:\s+[-+]?\d[\d.,eE+-]*)*\s*")
_WORD = re.compile(r"(?<!\S)[A-Za-z][a-z']+(?=[\s,.:;!?]|$)")
_SENTENCE_ENDS = (".", "?", "!", ":")


@dataclass(frozen=True, slots=True)
class Case:
    """One run of a program."""

    input: str
    output: str


def caller_cases(texts: Sequence[str]) -> tuple[Case, ...]:
    """The cases that a caller sends, each a JSON object {"input": "…", "output": "…"}. Raises InvalidRequest."""
    if len(texts) > MAX_CASES:
        raise InvalidRequest(f"cases has {len(texts):,} elements, must have {MAX_CASES:,} or fewer")
    return tuple(_case(number, text) for number, text in enumerate(texts))


def _case(number: int, text: str) -> Case:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or sorted(fields) != ["input", "output"] or not all(map(_is_text, fields.values())):
        shown = text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"
        raise InvalidRequest(f"cases[{number}] is {shown!r}, must be a JSON object of two texts, input and output")
    return Case(**fields)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and _SURROGATE.search(value) is None


def sample_cases(text: str) -> tuple[Case, ...]:
    """The samples of a problem's statement: an input and the output that follows it, each below a heading or behind a label.

    They are samples if a heading says so ("Sample Input", "Examples"), or if the input is numbers alone. Elsewhere in a statement
    the same headings stand above descriptions.
    """
    if "output" not in text.lower():
        return ()
    return tuple(dict.fromkeys(itertools.islice(_samples(text), _MAX_SAMPLES)))


def _samples(text: str) -> Iterator[Case]:
    for given, wanted in itertools.pairwise(_sections(text)):
        if (given.name, wanted.name) == ("input", "output"):
            case = Case(given.data + "\n", wanted.data)
            if case.output and (given.marked or _NUMBERS.fullmatch(case.input)):
                yield case


@dataclass(slots=True)
class _Section:
    """A heading of a statement and the lines below it."""

    name: str
    marked: bool
    """Whether it is said to be a part of a sample."""
    lines: list[str]

    @property
    def data(self) -> str:
        """The lines, without prose below them. Where each is a paragraph of its own, blank lines between them say nothing."""
        lines = [line for line in self.lines if not line.lstrip().startswith("```")]
        first, *others = re.split(r"\n(?:[ \t]*\n)+", dedent("\n".join(lines)).strip("\n"))
        paragraphs = [first, *itertools.takewhile(lambda paragraph: not _is_prose(paragraph), others)]
        between = "\n\n" if any("\n" in paragraph for paragraph in paragraphs) else "\n"
        return between.join(paragraphs).rstrip()


def _sections(text: str) -> Iterator[_Section]:
    section, in_samples = _Section("", False, []), False
    for line in text.split("\n")[:_MAX_LINES]:
        heading = _heading(line, in_samples)
        if heading is None:
            section.lines.append(line)
            continue
        yield section
        section = heading
        in_samples = section.marked
    yield section


def _heading(line: str, in_samples: bool) -> _Section | None:
    """The section that the line begins; None if it is no heading."""
    if len(line) > _MAX_HEADING_CHARS:
        return None
    found, ruled = _HEADING.fullmatch(line), _RULED.fullmatch(line.strip()) is not None
    if found is None or (found["rest"] and not found["colon"]):
        return _Section("", False, []) if ruled else None
    name, rest = found["name"].lower(), found["rest"].strip(" `")
    marked = name in ("example", "sample") or bool(found["sample"])
    if name in ("input", "output") and not ruled:
        marked = marked or in_samples
    return _Section("" if found["format"] else name, marked and not found["format"], [rest] if rest else [])


def _is_prose(paragraph: str) -> bool:
    """Whether a line of it has three words, or two that end a sentence."""
    return any(len(_WORD.findall(line)) >= (2 if line.rstrip().endswith(_SENTENCE_ENDS) else 3) for line in paragraph.split("\n"))
