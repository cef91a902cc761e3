"""Makes a candidate program of the prompt's code and a model's answer.

Models repeat the header, forget the indentation, stop in the middle of a line. None of that is an error: the best program in
the answer counts, at worst the prompt's own code with an empty body. The prompt's own lines stay as they are.
"""

from __future__ import annotations
import __future__

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import dedent, indent

from codecascade.texts.answers import code_in
from codecascade.texts.blocks import mentions
from codecascade.texts.bodies import opened, with_body
from codecascade.texts.infill_answers import infill_candidate
from codecascade.texts.line_ends import line_end
from codecascade.texts.methods import with_method_as_function
from codecascade.texts.names import unresolved_names
from codecascade.texts.prompts import Prompt
from codecascade.texts.repairs import is_prose, repaired
from codecascade.texts.syntax import (
    DEFINITIONS,
    FUNCTIONS,
    IMPORTS,
    MAX_COMPLETION_CHARS,
    Outline,
    SyntaxFault,
    clean,
    has_body,
    outline,
    parsing_start,
    problem,
    syntax_fault,
    tree,
)
from codecascade.texts.usage import without_usage
from codecascade.types import Candidate, Task

_FUTURE = re.compile(r"^from[ \t]+__future__[ \t]+import[ \t]*(\([^)]*\)|[^\n;#]*)[^\n]*\n?", re.MULTILINE)
_IMPORT = re.compile(r"^(?:import|from)[ \t][^\n]*$", re.MULTILINE)
_LINE_TO_FIND = 4  # characters that a line of the prompt must have to be looked for in an answer


def candidate(task: Task, prompt: Prompt, completion: str, *, cut: bool = False) -> Candidate:
    """The program in a completion of `asked_for`, the prompt's own code included. Raises nothing.

    cut: whether the token limit ended the completion.
    """
    if task.infill:
        return infill_candidate(task, completion, cut=cut)
    given = outline(task.prompt)
    in_block = bool(prompt.prefix) or prompt.text.endswith("```python\n")
    answer = code_in(clean(completion[:MAX_COMPLETION_CHARS]), task.entry_point, in_block)
    cut = cut and not answer.ended
    if given.closed is None:
        return _text(task.prompt, given, answer.text, continues=bool(prompt.prefix), cut=cut)
    code, features = _without_future(answer.text)
    best = _best(task, given, code)
    if best.problem is not None:
        return Candidate(_ended(best.program), _inserted(task.prompt, given, _ended(best.program)), best.problem, cut)
    program = best.program
    if given.indent and task.entry_point:
        cut = cut and _stops_in_function(best, code, task.entry_point)
        program = without_usage(program, given.code.count("\n"), task.entry_point)
        program = with_method_as_function(program, given.code.count("\n"), task.entry_point)
    source = _ended(program)
    return Candidate(_with_future(source, features, given), _inserted(task.prompt, given, source), None, cut)


def _ended(program: str) -> str:
    return program.rstrip() + "\n"


def _inserted(prompt: str, given: Outline, program: str) -> str:
    """What the program has below the prompt, with the prompt's line ends. Blanks at the prompt's end are not doubled."""
    tail = program[len(given.code) :]
    blanks = _blanks_at_end(prompt, given)
    if blanks and tail.startswith(blanks):
        tail = tail[len(blanks) :]
    elif blanks and tail[:1] not in ("", "\n") and not _stops_within_a_line(given):
        tail = "\n" + tail
    return tail.replace("\n", line_end(prompt))


def _blanks_at_end(prompt: str, given: Outline) -> str:
    return clean(prompt)[len(given.code) :]


def _start(prompt: str, given: Outline) -> str:
    """The prompt's code, with the blanks at its end if they are within a line."""
    return given.code + (_blanks_at_end(prompt, given) if _stops_within_a_line(given) else "")


def _stops_within_a_line(given: Outline) -> bool:
    return not given.code.endswith("\n") and given.code != ""


# Prompts that are no program


def _text(prompt: str, given: Outline, code: str, *, continues: bool, cut: bool) -> Candidate:
    """The prompt and what follows it, as text: the prompt alone is no program that could be closed.

    continues: whether the model went on where the prompt stops. Otherwise the code may begin with the prompt's own.
    """
    after = _after(given.code, code)
    if continues and not _begins_again(given.code, code):
        source = _ended(_start(prompt, given) + code)
        again = None if after is None or problem(source) is None else _ended(given.code + after)
        if again is not None and problem(again) is None:
            source = again
        elif problem(source):
            parsing = parsing_start(source)
            source = _ended(parsing) if len(parsing.rstrip()) > len(given.code.rstrip()) else source
        return Candidate(source, _inserted(prompt, given, source), problem(source), cut)
    if after is not None:
        source = _ended(given.code + after)
        return Candidate(source, _inserted(prompt, given, source), problem(source), cut)
    source = _ended(_python_or_text(code))
    below = ("\n" if _stops_within_a_line(given) else "") + source
    return Candidate(source, _inserted(prompt, given, given.code + below), problem(source), cut)


def _python_or_text(code: str) -> str:
    """The code as a program, or as much of it as is one and defines or imports something; else as it is."""
    readings = list(_readings(code))
    whole = next((reading for reading in readings if reading.strip() and syntax_fault(reading) is None), None)
    if whole is not None:
        return whole
    start = parsing_start(readings[-1])
    module = tree(start)
    return start if module and any(isinstance(node, (*DEFINITIONS, *IMPORTS)) for node in module.body) else code


def _begins_again(start: str, code: str) -> bool:
    """Whether the code begins with the first line of `start`."""
    first = start.strip().partition("\n")[0].rstrip()
    return len(first) >= _LINE_TO_FIND and code.strip().partition("\n")[0].rstrip() == first


def _after(start: str, code: str) -> str | None:
    """What follows in the code where it has the last line of `start`; None if it has not."""
    last = start.rstrip().rpartition("\n")[2].strip()
    if len(last) < _LINE_TO_FIND:
        return None
    found = re.search(rf"^[ \t]*{re.escape(last)}", code, re.MULTILINE)
    if found is None:
        return None
    rest = code[found.end() :]
    return rest.removeprefix("\n") if start.endswith("\n") else rest


# Programs


@dataclass(frozen=True, slots=True)
class _Best:
    """The best program in an answer."""

    program: str
    problem: str | None = None
    """Why it does not parse; None: it does."""
    whole: str = ""
    """The prompt's code and all that the answer has, in the answer's order."""


def _best(task: Task, given: Outline, code: str) -> _Best:
    """The first program that parses. If none does: the parsing start of the program whose first error comes latest."""
    broken: dict[str, SyntaxFault] = {}
    for text in _readings(code):
        for program, whole in _programs(task, given, text):
            fault = syntax_fault(program)
            if fault is None:
                return _Best(program, whole=whole)
            broken[program] = fault
    latest = min(broken, key=lambda program: (not broken[program].newer, program.count("\n") - broken[program].line))
    start = _Best(parsing_start(latest), whole=latest)
    has_more = len(start.program.rstrip()) > len(given.code.rstrip())
    if broken[latest].newer and not (has_more and task.entry_point and not _stops_in_function(start, code, task.entry_point)):
        return _Best(latest, str(broken[latest]))
    if has_more:
        return start
    if given.finished:
        return _Best(_closed(given), whole=_closed(given))
    return _Best(latest, str(broken[latest]))


def _readings(code: str) -> Iterator[str]:
    """The code as it is; then, where that gives no program, as what it stands for."""
    yield code
    other = repaired(code)
    if other != code:
        yield other


def _programs(task: Task, given: Outline, code: str) -> Iterator[tuple[str, str]]:
    """Ways to put the prompt's code and the model's together, likeliest first; each also in the answer's order."""
    if not code.strip() and given.finished:
        yield _closed(given), _closed(given)
        return
    for text in (code, code.expandtabs(4), code.expandtabs(8)) if "\t" in code else (code,):
        if given.finished:
            yield from _rewritten(task, given, text)
            yield from ((program, program) for program in _continued(task, given, text))
        else:
            yield from ((program, program) for program in _last_statement_continued(task, given, text))


def _continued(task: Task, given: Outline, text: str) -> Iterator[str]:
    """The answer goes on where the prompt stops, at the right indentation or not, or stands below it."""
    yield _start(task.prompt, given) + text
    if given.indent:
        below = f"{given.code}\n" if _stops_within_a_line(given) else given.code
        yield below + indent(dedent(text), given.indent)
        yield below + given.indent + text.lstrip()
    yield _followed(given, text)


def _rewritten(task: Task, given: Outline, text: str) -> Iterator[tuple[str, str]]:
    """The answer has the prompt's function, or its class, once more."""
    header = opened(given)
    if not _rewrites(text, {name for name in (task.entry_point, header.name if header else None) if name}):
        return
    followed = _followed(given, text)
    filled = with_body(given, dedent(text).lstrip("\n"))
    if filled is not None:
        yield filled, followed
    if header and header.margin and not text.lstrip().startswith(("class ", "@")):
        method = f"{_closed(given)}\n{indent(dedent(text).strip(), header.margin)}\n"
        yield method, method
    yield followed, followed


def _last_statement_continued(task: Task, given: Outline, text: str) -> Iterator[str]:
    """The answer goes on within the prompt's last statement, or has it once more."""
    yield _start(task.prompt, given) + text
    rest = _after(given.code, text)
    if rest is not None:
        imports = _IMPORT.findall(text[: len(text) - len(rest)])
        yield "\n".join([given.code + rest.rstrip(), *(["\n", *imports] if imports else [])])


def _rewrites(text: str, names: set[str]) -> bool:
    """Whether one of the functions is defined at the margin, or in a class there."""
    if "def " not in text:
        return False
    text = dedent(text)
    for name in names:
        first, _, last = name.rpartition(".")
        if re.search(rf"^(?:async\s+)?def\s+{re.escape(last)}\s*[(\[]", text, re.MULTILINE):
            return True
        if mentions(text, last) and re.search(rf"^class\s+{re.escape(first) or ''}", text, re.MULTILINE):
            return True
    return False


def _closed(given: Outline) -> str:
    """The prompt's code as a program of its own."""
    line_end = "\n" if _stops_within_a_line(given) else ""
    return f"{given.code}{line_end}{given.indent}pass\n" if given.indent else given.code + line_end


def _followed(given: Outline, code: str) -> str:
    """The prompt's code as a program of its own, then the model's."""
    return f"{_closed(given)}\n\n{dedent(code).lstrip()}"


def _stops_in_function(best: _Best, code: str, name: str) -> bool:
    """Whether the token limit cut a part of the program: nothing follows the function, or names are unbound."""
    lines = code.rstrip().split("\n")
    if is_prose(lines[-1]) and len(lines) > 1:
        return False
    module = tree(best.whole) or tree(best.program)
    last = name.rpartition(".")[2]
    functions = [node for node in (ast.walk(module) if module else ()) if isinstance(node, FUNCTIONS) and node.name == last]
    if not functions:
        return True
    function = max(functions, key=lambda node: node.lineno)
    if not has_body(function):
        return True
    below = best.whole.split("\n")[function.end_lineno :]
    goes_on = any(line.strip() and len(line) - len(line.lstrip()) <= function.col_offset for line in below)
    return not goes_on or bool(unresolved_names(best.program))


# from __future__ import


def _without_future(code: str) -> tuple[str, set[str]]:
    """The code without its `from __future__` imports, which are allowed at a program's top alone, and what they import."""
    if "__future__" not in code:
        return code, set()
    return _FUTURE.sub("", code), _features(code)


def _with_future(program: str, features: set[str], given: Outline) -> str:
    missing = sorted(features - _features(given.code))
    return f"from __future__ import {', '.join(missing)}\n{program}" if missing else program


def _features(code: str) -> set[str]:
    names = {name for match in _FUTURE.finditer(code) for name in re.findall(r"\w+", match[1])}
    return names & set(__future__.all_feature_names)
