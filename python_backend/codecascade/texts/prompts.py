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


_FENCE = "\n```"
# A function ends where a top-level statement, a comment at the margin or the end of the code block follows.
_TOP_LEVEL = tuple(
    "\n" + start
    for start in ("```", "def ", "class ", "@", "async ", "#", "if ", "for ", "while ", "print", "assert ", "import ", "from ")
)
# Asserts end where anything else follows.
_AFTER_ASSERTS = tuple("\n" + start for start in ("```", "\n", "#", "print", "def ", "if ", "for ", "class "))

_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{request}\n\n### Response:{response}"
)
_CHATML = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n{request}<|im_end|>\n"
    "<|im_start|>assistant\n{response}"
)


def solution_prompt(style: str, task: Task) -> Prompt:
    """Ask for the rest of the task's code. Raises ValueError for an unknown style."""
    given = outline(task.prompt)
    stop = _TOP_LEVEL if given.indent else (_FENCE,)
    if style == "base":
        return Prompt(given.code, prefix=given.code, stop=stop)
    request = f"Create a Python script for this problem:\n{given.code}"
    if style == "alpaca":
        return Prompt(_ALPACA.format(request=request, response=""), prefix="", stop=("\n### ",))
    if style == "chatml":
        primed = given.code if given.closed is not None else ""
        return Prompt(_CHATML.format(request=request, response="```python\n" + primed), prefix=primed, stop=stop)
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
        return Prompt(f"{code}\n# check the correctness of {name}\nassert ", prefix="assert ", stop=_AFTER_ASSERTS)
    request = f"Write {lines_asked(lines)} lines of code to test the correctness of {name}:\n{code}"
    # Not "assert name(": models write "([" or "('" as one token. After a bracket of ours they leave out the next one.
    prefix = f"assert {name}"
    if style == "alpaca":
        return Prompt(_ALPACA.format(request=request, response=prefix), prefix=prefix, stop=_AFTER_ASSERTS)
    if style == "chatml":
        text = _CHATML.format(request=request, response="```python\n" + prefix)
        return Prompt(text, prefix=prefix, stop=_AFTER_ASSERTS)
    raise _unknown(style)


def lines_asked(lines: int) -> int:
    """How many lines a model is asked for when `lines` of them are kept."""
    return max(lines, _LINES_ASKED)


def _closed(given: Outline) -> str:
    return given.code if given.closed is None else given.closed


def _unknown(style: str) -> ValueError:
    return ValueError(f"prompt style {style!r} is unknown, allowed are {', '.join(STYLES)}")
