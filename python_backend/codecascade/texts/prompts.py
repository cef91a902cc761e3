"""What a model is asked, by prompt style: one text for solutions, one for tests.

A style primes the answer where it can. The text ends with the beginning of the wanted code, so the model writes, and the caller
pays for, nothing else. Stop words end the answer where that code ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from codecascade.texts.syntax import Outline, outline
from codecascade.types import Task

STYLES = ("base", "alpaca", "chatml")
_LINES_ASKED = 4  # at least. A plan that keeps fewer ends the answer early, so one recording serves every such plan


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is sent."""

    text: str
    """Exactly what the model reads, special tokens included."""
    prefix: str
    """The code that the completion continues. Extraction puts it back in front."""
    stop: tuple[str, ...]
    """Words at which the answer ends. They are not part of it."""
    literal_ranges: tuple[int, ...] = ()
    """Where the caller's own text is in the text, as the tier contract has it: special tokens there are plain text."""


_FENCE = "\n```"
NEW_CODE = ("\ndef ", "\nclass ", "\n@", "\nasync ", "\nimport ", "\nfrom ")
"""Stop words below which there may be something that the answer needs."""
# A function ends where a top-level statement, a comment at the margin or the end of the code block follows.
_TOP_LEVEL = tuple(
    "\n" + start
    for start in ("```", "def ", "class ", "@", "async ", "#", "if ", "for ", "while ", "print", "assert ", "import ", "from ")
)
STOP_BELOW_NEW_CODE = tuple(word for word in _TOP_LEVEL if word not in (*NEW_CODE, "\n#"))
"""Where an answer ends that goes on below its function."""
# Asserts end where anything else follows.
_AFTER_ASSERTS = tuple("\n" + start for start in ("```", "\n", "#", "print", "def ", "if ", "for ", "class "))

_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n%s\n\n### Response:%s"
)
_CHATML = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n%s<|im_end|>\n"
    "<|im_start|>assistant\n```python\n%s"
)


def solution_prompt(style: str, task: Task, *, once: bool = False) -> Prompt:
    """Ask for the rest of the task's code. Raises ValueError for an unknown style.

    once: send the code once where the style sends it twice, for a context that is too small for both. Models answer that a
    little worse (docs/measurements.md). The answer is read alike.
    """
    given = outline(task.prompt)
    stop = _TOP_LEVEL if given.indent else (_FENCE,)
    request = "Create a Python script for this problem:\n{code}"
    if style == "base":
        return _prompt("{code}", given.code, prefix=given.code, stop=stop)
    if style == "alpaca":
        return _prompt(_ALPACA % (request, ""), given.code, prefix="", stop=("\n### ",))
    if style == "chatml":
        primed = given.closed is not None
        if once and primed:
            request = "Create a Python script for this problem."
        template = _CHATML % (request, "{code}" if primed else "")
        return _prompt(template, given.code, prefix=given.code if primed else "", stop=stop)
    raise _unknown(style)


def tests_prompt(style: str, task: Task, lines: int) -> Prompt:
    """Ask for at least `lines` lines that test the task's entry point.

    Raises ValueError for an unknown style or no entry point.
    """
    if task.entry_point is None:
        raise ValueError("a task without an entry point has nothing to test")
    name = task.entry_point
    code = _closed(outline(task.prompt))
    if style == "base":
        return _prompt(f"{{code}}\n# check the correctness of {name}\nassert ", code, prefix="assert ", stop=_AFTER_ASSERTS)
    request = f"Write {lines_asked(lines)} lines of code to test the correctness of {name}:\n{{code}}"
    # Not "assert name(": models write "([" or "('" as one token. After a bracket of ours they leave out the next one.
    prefix = f"assert {name}"
    if style == "alpaca":
        return _prompt(_ALPACA % (request, prefix), code, prefix=prefix, stop=_AFTER_ASSERTS)
    if style == "chatml":
        return _prompt(_CHATML % (request, prefix), code, prefix=prefix, stop=_AFTER_ASSERTS)
    raise _unknown(style)


def lines_asked(lines: int) -> int:
    """How many lines a model is asked for when `lines` of them are kept."""
    return max(lines, _LINES_ASKED)


def _prompt(template: str, code: str, *, prefix: str, stop: tuple[str, ...]) -> Prompt:
    """The template with the caller's code wherever it says {code}."""
    text, *others = template.split("{code}")
    ranges: list[int] = []
    for following in others:
        start = len(text.encode())
        text += code
        ranges += [start, len(text.encode())] if code else []
        text += following
    return Prompt(text, prefix, stop, tuple(ranges))


def _closed(given: Outline) -> str:
    return given.code if given.closed is None else given.closed


def _unknown(style: str) -> ValueError:
    return ValueError(f"prompt style {style!r} is unknown, allowed are {', '.join(STYLES)}")
