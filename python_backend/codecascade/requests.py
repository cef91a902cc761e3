"""What a caller asks for: request → task, and an answer → the caller's text with what was written in it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from codecascade.errors import InvalidRequest
from codecascade.texts.caller_tests import caller_tests
from codecascade.texts.cases import Case, caller_cases
from codecascade.texts.examples import prompt_examples
from codecascade.texts.fitting import PYTHON, function_around
from codecascade.texts.holes import hole_of
from codecascade.texts.imports import lacking, missing_modules
from codecascade.texts.languages import language_of
from codecascade.texts.stdin import (
    case_lines,
    function_of,
    is_used,
    prompt_cases,
    stands_for_a_program,
    takes_nothing,
)
from codecascade.texts.syntax import clean, outline
from codecascade.texts.units import Function, Unit, program_of, unit_names, unit_of, why_no_unit
from codecascade.types import MAX_TEST_LINES, Candidate, Task, TestLine

MAX_TESTS = 1_000
_DOCSTRING = ('"""', "'''")


def task_of(
    prompt: str,
    entry_point: str | None = None,
    cursor: int | None = None,
    sandbox_modules: Collection[str] = (),
    tests: Sequence[str] = (),
    cases: Sequence[str] = (),
) -> Task:
    """The task of a prompt: what is written is what is tested, unless entry_point names something else.

    cursor: the byte of the prompt where the code is to go on; default: where it is incomplete. tests: asserts or test programs
    that the caller sends. cases: what a program reads and has to print, in JSON. Raises InvalidRequest.
    """
    at = _cursor(prompt, cursor) if cursor is not None else hole_of(prompt, entry_point)
    before, after = (prompt, "") if at is None else (prompt[:at], prompt[at:])
    unit = unit_of(before, entry_point, after)
    if entry_point is not None and unit is None:
        allowed = ", ".join(unit_names(before, after)) or "none: the prompt defines no function"
        raise InvalidRequest(f"entry_point is {entry_point!r}, which the prompt does not define, allowed are {allowed}")
    untested = _why_untested(before, after, unit, sandbox_modules)
    task = Task(before, unit.name if unit else None, after, unit.expression if unit else "", untested)
    return _with_tests(task, tests, caller_cases(cases), sandbox_modules)


def infill_of(
    prefix: str,
    suffix: str,
    language: str = "",
    entry_point: str | None = None,
    sandbox_modules: Collection[str] = (),
    tests: Sequence[str] = (),
    *,
    one_line: bool = False,
) -> Task:
    """The task of the code between two texts. Python in a function is tested with what comes with the request.

    language: what they are written in, as the caller names it; empty: as they look. one_line: whether it ends with its line.
    Raises InvalidRequest.
    """
    untested = _why_no_tests(prefix, suffix, language, bool(tests or entry_point))
    if untested:
        return Task(prefix, suffix=suffix, untested=untested, infill=True, language=language, one_line=one_line)
    cursor = len(prefix.encode())
    task = task_of(prefix + suffix, entry_point, cursor, sandbox_modules, tests)
    return replace(task, infill=True, language=language, one_line=one_line)


def _why_no_tests(prefix: str, suffix: str, language: str, asked: bool) -> str | None:
    """Why an infill has no tests, as far as that can be told without parsing; editors ask for many. asked: that there be some."""
    if language and language.lower() not in PYTHON:
        return f"the prompt is {language}, not Python"
    before, _ = function_around(clean(prefix), clean(suffix))
    return None if asked or any(quotes in before for quotes in _DOCSTRING) else "no tests come with it"


def _with_tests(task: Task, tests: Sequence[str], cases: Sequence[Case], sandbox_modules: Collection[str]) -> Task:
    """The task with the tests that come with it, each once."""
    if len(tests) > MAX_TESTS:
        raise InvalidRequest(f"tests has {len(tests):,} elements, must have {MAX_TESTS:,} or fewer")
    function = function_of(task)
    if function and stands_for_a_program(function) and not is_used(task, function):
        return _with_lines(task, tests, *case_lines(cases, function.name))
    why_not = _why_no_run(task, function, sandbox_modules)
    if why_not is None:
        of_program = cases or (() if tests or not _is_program(task, function) else prompt_cases(task))
        lines, problems = case_lines(of_program)
        if lines:
            left_out = ["tests are not run: cases test the program as a whole"] if tests else []
            left_out += problems if cases else ()
            return replace(task, untested=None, program=True, given_tests=lines, unusable_tests=tuple(left_out))
        return _with_lines(task, tests, (), problems if cases else ())
    return _with_lines(task, tests, (), (f"cases are not run: {why_not}",) if cases else ())


def _with_lines(task: Task, tests: Sequence[str], lines: Sequence[TestLine], problems: Sequence[str]) -> Task:
    """The task of a function with the caller's tests, more lines that the caller sends, and the prompt's examples."""
    if not task.testable:
        return replace(task, unusable_tests=tuple(problems))
    sent, broken = caller_tests(tests)
    given = dict.fromkeys((*sent, *lines, *prompt_examples(task)))
    if len(given) > MAX_TEST_LINES:
        raise InvalidRequest(f"tests and examples are {len(given):,} assertions, must be {MAX_TEST_LINES:,} or fewer")
    return replace(task, given_tests=tuple(given), unusable_tests=(*broken, *problems))


def _is_program(task: Task, function: Function | None) -> bool:
    """Whether a prompt's samples can only be those of a program."""
    return not task.testable or (function is not None and takes_nothing(function) and not prompt_examples(task))


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


def _why_no_run(task: Task, function: Function | None, sandbox_modules: Collection[str]) -> str | None:
    """Why running the program as a whole would say nothing about what is written, in words. None if it would."""
    module = program_of(task.prompt, task.suffix)
    if module is None:
        return _why_no_program(task.prompt) if language_of(task.prompt) == "other" else None
    if missing := missing_modules(module, sandbox_modules, (task.entry_point or "").rpartition(".")[2]):
        return f"the prompt {lacking(missing)}"
    if function and not takes_nothing(function) and not is_used(task, function):
        return f"nothing calls {function.name}"
    return None


def _why_no_program(prompt: str) -> str:
    language = language_of(prompt)
    if language == "python":
        return f"the prompt cannot be read: {outline(prompt).problem}"
    return "the prompt is not Python" + (": it is completed in its own language" if language == "other" else "")
