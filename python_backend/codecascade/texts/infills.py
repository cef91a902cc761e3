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
_TOLD_APART = 4  # characters, blanks left out, that the suffix's first line must have to end an infill


@dataclass(frozen=True, slots=True)
class FimTokens:
    """How a family of models is asked for the middle."""

    prefix: str
    suffix: str
    middle: str
    ends: tuple[str, ...]
    """Tokens that end the middle."""


FIM_TOKENS = {
    "qwen2.5-coder": FimTokens(
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
        ("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|endoftext|>", "<|im_end|>"),
    ),
    "starcoder": FimTokens("<fim_prefix>", "<fim_suffix>", "<fim_middle>", ("<file_sep>", "<|endoftext|>")),
}
"""By the models that were trained with them. WizardCoder-Python lost Code Llama's in fine-tuning, CodeGen-mono never had any."""


def asked_for(style: str, fim: str | None, task: Task, *, once: bool = False) -> Prompt:
    """What a tier is asked for an answer to the task: the code between two texts, or the rest of it.

    Raises ValueError for an unknown style, InvalidRequest for an infill of a tier that has no tokens for it.
    """
    if not task.infill:
        return solution_prompt(style, task, once=once)
    if fim is None:
        raise InvalidRequest("the tier has no tokens for fill-in-the-middle: it cannot be asked for the code between two texts")
    return fim_prompt(fim, task)


def fim_prompt(fim: str, task: Task) -> Prompt:
    """Ask for the code between the task's prompt and its suffix, which no special token can leave.

    fim: one of FIM_TOKENS. Raises ValueError for another family.
    """
    if fim not in FIM_TOKENS:
        raise ValueError(f"fim is {fim!r}, must be one of {', '.join(FIM_TOKENS)}")
    tokens = FIM_TOKENS[fim]
    before, after = clean(task.prompt), clean(task.suffix)
    text = ""
    ranges: list[int] = []
    for token, own in ((tokens.prefix, before), (tokens.suffix, after), (tokens.middle, "")):
        text += token
        start = len(text.encode())
        text += own
        ranges += [start, len(text.encode())] if own else []
    return Prompt(text, before, (*tokens.ends, *_stop_words(task)), tuple(ranges))


def max_infill_tokens(task: Task) -> int:
    """How long an infill may become."""
    return MAX_LINE_TOKENS if ends_with_its_line(task) else MAX_TOKENS


def ends_with_its_line(task: Task) -> bool:
    """Whether an infill is one line: the caller says so, or the rest of the line is there."""
    return task.one_line or bool(task.suffix.partition("\n")[0].strip())


def _stop_words(task: Task) -> tuple[str, ...]:
    if ends_with_its_line(task):
        return ("\n",)
    following = next((line for line in clean(task.suffix).split("\n") if line.strip()), "")
    told_apart = len("".join(following.split())) >= _TOLD_APART
    return (*stop_words(task), *((f"\n{following}",) if told_apart else ()))
