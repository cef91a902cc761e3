"""What a caller asks for: request → task, and an answer → the caller's text with what was written in it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from codecascade.errors import InvalidRequest
from codecascade.texts.caller_tests import caller_tests
from codecascade.texts.examples import prompt_examples
from codecascade.texts.holes import hole_of
from codecascade.texts.imports import lacking, missing_modules
from codecascade.texts.languages import language_of
from codecascade.texts.syntax import outline
from codecascade.texts.units import Unit, program_of, unit_names, unit_of, why_no_unit
from codecascade.types import Candidate, Task

MAX_TESTS = 1_000


def task_of(
    prompt: str,
    entry_point: str | None = None,
    cursor: int | None = None,
    sandbox_modules: Collection[str] = (),
    tests: Sequence[str] = (),
) -> Task:
    """The task of a prompt: what is written is what is tested, unless entry_point names something else.

    cursor: the byte of the prompt where the code is to go on; default: where it is incomplete. tests: asserts or test programs
    that the caller sends. Raises InvalidRequest.
    """
    at = _cursor(prompt, cursor) if cursor is not None else hole_of(prompt, entry_point)
    before, after = (prompt, "") if at is None else (prompt[:at], prompt[at:])
    unit = unit_of(before, entry_point, after)
    if entry_point is not None and unit is None:
        allowed = ", ".join(unit_names(before, after)) or "none: the prompt defines no function"
        raise InvalidRequest(f"entry_point is {entry_point!r}, which the prompt does not define, allowed are {allowed}")
    untested = _why_untested(before, after, unit, sandbox_modules)
    task = Task(before, unit.name if unit else None, after, unit.expression if unit else "", untested)
    return _with_tests(task, tests) if task.testable else task


def _with_tests(task: Task, tests: Sequence[str]) -> Task:
    """The task with the tests that come with it, each once."""
    if len(tests) > MAX_TESTS:
        raise InvalidRequest(f"tests has {len(tests):,} elements, must have {MAX_TESTS:,} or fewer")
    sent, problems = caller_tests(tests)
    return replace(task, given_tests=tuple(dict.fromkeys((*sent, *prompt_examples(task)))), unusable_tests=problems)


def completion(task: Task, candidate: Candidate) -> str:
    """The caller's text as it came, with what was written."""
    return task.prompt + candidate.inserted + task.suffix


def _cursor(prompt: str, cursor: int) -> int:
    """The character that begins at a byte. Raises InvalidRequest."""
    text = prompt.encode()
    if not 0 <= cursor <= len(text):
        raise InvalidRequest(f"cursor is {cursor}, must be 0 to {len(text)}, the bytes of the prompt")
    try:
        return len(text[:cursor].decode())
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"cursor is {cursor}, within a character, must be at its start, {error.start}") from None


def _why_untested(before: str, after: str, unit: Unit | None, sandbox_modules: Collection[str]) -> str | None:
    """Why tests would say nothing about what is written, in words. None if they would."""
    program = program_of(before, after)
    if program is None:
        return _why_no_program(before)
    if unit is None:
        return why_no_unit(before)
    missing = missing_modules(program, sandbox_modules, unit.name.rpartition(".")[2])
    if missing and not unit.untested:
        return f"the prompt {lacking(missing)}"
    return unit.untested


def _why_no_program(prompt: str) -> str:
    language = language_of(prompt)
    if language == "python":
        return f"the prompt cannot be read: {outline(prompt).problem}"
    return "the prompt is not Python" + (": it is completed in its own language" if language == "other" else "")
