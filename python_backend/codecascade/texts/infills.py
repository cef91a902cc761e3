"""Fill-in-the-middle: what a model is asked that was trained to write the code between a prefix and a suffix.

Such a model reads the prefix and the suffix between tokens of its own, without a request around them. It ends the code itself; a
stop word ends it where it would go on with the suffix's first line.
"""

from __future__ import annotations

from dataclasses import dataclass

from codecascade.errors import InvalidRequest
from codecascade.texts.prompts import Prompt, solution_prompt, stop_words
from codecascade.texts.syntax import clean
from codecascade.types import Task

MAX_TOKENS = 256
MAX_LINE_TOKENS = 96
"""Of an infill that is one line."""
_TOLD_APART = 4
_SHARE_AFTER = 0.25


@dataclass(frozen=True, slots=True)
class FimTokens:
    """How a family of models is asked for the middle."""

    prefix: str
    suffix: str
    middle: str
    ends: tuple[str, ...]
    """Tokens that end the middle."""


@dataclass(frozen=True, slots=True)
class Following:
    """The line that the suffix goes on with."""

    line: str
    """Empty where the suffix has no code."""
    closes: bool
    """Whether it is indented less than the line with the hole."""

    @classmethod
    def of(cls, before: str, after: str) -> Following:
        line = next((line for line in after.split("\n") if line.strip()), "")
        return cls(line, indentation(line) < indentation(before.rpartition("\n")[2]))

    @property
    def told_apart(self) -> bool:
        """Whether it has enough characters to be known again wherever it stands."""
        return len("".join(self.line.split())) >= _TOLD_APART

    @property
    def ends_infills(self) -> bool:
        """Whether an infill ends where it stands: a bracket does where it closes the block of the hole."""
        return bool(self.line) and (self.told_apart or self.closes)

    def is_in(self, line: str) -> bool:
        """Whether a line of an infill is this one."""
        if self.told_apart:
            return line.strip() == self.line.strip()
        return self.ends_infills and line.rstrip() == self.line.rstrip()


def indentation(line: str) -> int:
    """Characters."""
    return len(line) - len(line.lstrip())


FIM_TOKENS = {
    "qwen2.5-coder": FimTokens(
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
        ("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|endoftext|>", "<|im_end|>"),
    ),
    "starcoder": FimTokens("<fim_prefix>", "<fim_suffix>", "<fim_middle>", ("<fim_pad>", "<|endoftext|>")),
}
"""By the models that were trained with them. WizardCoder-Python lost Code Llama's in fine-tuning, CodeGen-mono never had any."""


def asked_for(style: str, fim: str | None, task: Task) -> Prompt:
    """What a tier is asked for an answer to the task: the code between two texts, or the rest of it.

    Raises ValueError for an unknown style, InvalidRequest for an infill of a tier that has no tokens for it.
    """
    return fim_prompt(fim, task) if task.infill else solution_prompt(style, task)


def fim_prompt(fim: str | None, task: Task, chars: int | None = None) -> Prompt:
    """Ask for the code between the task's prompt and its suffix, in which special tokens are plain text.

    fim: one of FIM_TOKENS. chars: of both texts at most; what is farthest from the hole is left out. Raises InvalidRequest for
    a model that has no such tokens.
    """
    if fim is None:
        raise InvalidRequest("the tier has no tokens for fill-in-the-middle: it cannot be asked for the code between two texts")
    tokens = FIM_TOKENS[fim]
    before, after = _nearest(clean(task.prompt), clean(task.suffix), chars)
    text = ""
    ranges: list[int] = []
    for token, own in ((tokens.prefix, before), (tokens.suffix, after), (tokens.middle, "")):
        text += token
        start = len(text.encode())
        text += own
        ranges += [start, len(text.encode())] if own else []
    return Prompt(text, before, (*tokens.ends, *_stop_words(task)), tuple(ranges))


def _nearest(before: str, after: str, chars: int | None) -> tuple[str, str]:
    """Whole lines next to the hole: a quarter of the room for what follows it, more where what is before it is short."""
    if chars is None or len(before) + len(after) <= chars:
        return before, after
    room = max(chars - len(before), int(chars * _SHARE_AFTER))
    if len(after) > room:
        after = after[: after.rfind("\n", 0, room) + 1] or after[:room]
    start = max(0, len(before) - (chars - len(after)))
    return before[before.find("\n", start) + 1 :] if start else before, after


def max_infill_tokens(task: Task) -> int:
    """How long an infill may become."""
    return MAX_LINE_TOKENS if ends_with_its_line(task) else MAX_TOKENS


def ends_with_its_line(task: Task) -> bool:
    """Whether an infill is one line: the caller says so, or the rest of the line is there."""
    return task.one_line or bool(task.suffix.partition("\n")[0].strip())


def _stop_words(task: Task) -> tuple[str, ...]:
    if ends_with_its_line(task):
        return ("\n",)
    following = Following.of(clean(task.prompt), clean(task.suffix))
    return (*stop_words(task), *((f"\n{following.line}",) if following.ends_infills else ()))
