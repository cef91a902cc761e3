"""Which tasks the sandbox can judge at all."""

from __future__ import annotations

from collections.abc import Mapping

from codecascade.sandbox import offers
from codecascade.sandbox.pool import MAX_SOURCE_BYTES
from codecascade.texts.syntax import tree

from codecascade_client.datasets.humaneval import BenchmarkTask
from codecascade_client.datasets.python_source import packages_needed, parse

_ANSWER_BYTES = 1 << 10  # that an answer has at least, besides its prompt
_SHOWN = 3


def why_unusable(task: BenchmarkTask) -> str | None:
    """Why no answer to a task could pass in the sandbox. None if one can.

    The sandbox takes programs of MAX_SOURCE_BYTES bytes, and here it offers the standard library alone.
    """
    try:
        size = len(task.check_program(task.prompt).encode()) + _ANSWER_BYTES
    except UnicodeEncodeError:
        return "it holds half of a surrogate pair, which no program can"
    if size > MAX_SOURCE_BYTES:
        return f"its prompt, its tests and a short answer have {size:,} bytes, the sandbox takes {MAX_SOURCE_BYTES:,}"
    try:
        test = parse(task.test, "test")
    except ValueError as error:
        return str(error)
    prompt = tree(task.prompt) or tree(f"{task.prompt}    pass\n")
    for what, module in (("tests import", test), ("prompt imports", prompt)):
        foreign = sorted(name for name in packages_needed(module) if not offers(name)) if module else []
        if foreign:
            return f"its {what} {', '.join(foreign)}, which the sandbox does not offer"
    return None


def left_out_in_words(left_out: Mapping[str, str]) -> str:
    """`A: why; B: why; … and 7 more`, in one line."""
    shown = [f"{name}: {why}" for name, why in list(left_out.items())[:_SHOWN]]
    more = len(left_out) - len(shown)
    return "; ".join([*shown, f"… and {more:,} more"] if more else shown)
