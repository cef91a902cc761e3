"""What a model is asked, by prompt style: one text for solutions, one for tests.

A style primes the answer where it can. The text ends with the beginning of the wanted code, so the model writes, and the caller
pays for, nothing else. Stop words end the answer where that code ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from codecascade.texts.languages import language_of
from codecascade.texts.syntax import Outline, clean, outline
from codecascade.texts.units import margin_below
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
_MEMBERS = ("def ", "class ", "@", "async ", "#")
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
    "<|im_start|>assistant\n%s"
)
_PYTHON = "Create a Python script for this problem:\n{code}"
_REQUEST = {"python": _PYTHON, "prose": _PYTHON, "other": "Complete this code, in its own language:\n{code}"}


def solution_prompt(style: str, task: Task, *, once: bool = False) -> Prompt:
    """Ask for the rest of the task's code. Raises ValueError for an unknown style.

    once: send the code once where the style sends it twice, for a context that is too small for both. Models answer that worse:
    of HumanEval's validation tasks the 0.5B solved 21 of 49 instead of 27, the 1.5B 23 of the first 36 instead of 26. The answer
    is read alike.
    """
    given = outline(task.prompt)
    stop = stop_words(task)
    if style == "base":
        return _prompt("{code}" if given.code else "\n", given.code, stop, code=given.code)
    language = language_of(task.prompt)
    request = _REQUEST[language]
    if style == "chatml" and once and language == "python":
        request = "Create a Python script for this problem."
    following = "\n\nThis code follows it:\n{suffix}" if task.suffix.strip() else ""
    texts = {"code": given.code, "suffix": clean(task.suffix).strip()}
    if style == "alpaca":
        if language != "other":
            return _prompt(_ALPACA % (request + following, ""), "", ("\n### ",), **texts)
        return _prompt(_ALPACA % (request + following, "\n```\n{code}"), given.code, stop, **texts)
    if style == "chatml":
        fence = "```\n" if language == "other" else "```python\n"
        primed = language != "prose"
        template = _CHATML % (request + following, fence + ("{code}" if primed else ""))
        return _prompt(template, given.code if primed else "", stop, **texts)
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
        prefix = "assert " if task.tested == name else f"assert {task.tested}"
        return _prompt(f"{{code}}\n# check the correctness of {name}\n{prefix}", prefix, _AFTER_ASSERTS, code=code)
    request = f"Write {lines_asked(lines)} lines of code to test the correctness of {name}:\n{{code}}"
    # Not "assert name(": models write "([" or "('" as one token. After a bracket of ours they leave out the next one.
    prefix = f"assert {task.tested}"
    if style == "alpaca":
        return _prompt(_ALPACA % (request, prefix), prefix, _AFTER_ASSERTS, code=code)
    if style == "chatml":
        return _prompt(_CHATML % (request, f"```python\n{prefix}"), prefix, _AFTER_ASSERTS, code=code)
    raise _unknown(style)


def stop_words(task: Task) -> tuple[str, ...]:
    """Words at which a solution ends: where what is open ends, a method at the next member of its class."""
    if not task.prompt.endswith("\n") and task.suffix.partition("\n")[0].strip():
        return ("\n",)  # the rest of the line is there
    margin = margin_below(task.prompt)
    if margin is None:
        return (_FENCE,)
    return _TOP_LEVEL + tuple(f"\n{margin}{start}" for start in _MEMBERS if margin)


def lines_asked(lines: int) -> int:
    """How many lines a model is asked for when `lines` of them are kept."""
    return max(lines, _LINES_ASKED)


def _prompt(template: str, prefix: str, stop: tuple[str, ...], **caller_s: str) -> Prompt:
    """caller_s: the caller's texts by their names, which stand in the template in braces."""
    text, *parts = re.split(rf"\{{({'|'.join(caller_s)})\}}", template)
    ranges: list[int] = []
    for name, following in zip(parts[::2], parts[1::2], strict=True):
        start = len(text.encode())
        text += caller_s[name]
        ranges += [start, len(text.encode())] if caller_s[name] else []
        text += following
    return Prompt(text, prefix, stop, tuple(ranges))


def _closed(given: Outline) -> str:
    return given.code if given.closed is None else given.closed


def _unknown(style: str) -> ValueError:
    return ValueError(f"prompt style {style!r} is unknown, allowed are {', '.join(STYLES)}")
