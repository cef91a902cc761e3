"""Programs that read standard input: which prompts are such programs, and how a case of one becomes a test line.

The sandbox runs the whole program in a function of the input that gives what is printed. Two kinds of functions are run likewise:
one without parameters that nothing calls (`def solve():`) is called below the program, and one of the whole input
(`def solve(text: str) -> str:`) stands for the program.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from codecascade.sandbox.outputs import SAME_OUTPUT
from codecascade.texts.cases import Case, sample_cases
from codecascade.texts.languages import language_of
from codecascade.texts.syntax import FUNCTIONS, clean, tree
from codecascade.texts.units import Function, program_of
from codecascade.types import Candidate, Task, TestLine

TAKES_INPUT = "The argument is the whole input; what would be printed is returned."
"""What a function's docstring says where the function stands for a program."""
MAX_LINE_CHARS = 4_000
_PRINTED = "__printed__"
_RULED_INPUT = re.compile(r"^-{3,}[^-\n]*\binput\b[^-\n]*-{3,}$", re.IGNORECASE | re.MULTILINE)
# The program is compiled once, and runs anew for every input. It may open its standard streams as files, and close them. Its
# threads run where they are started: the sandbox allows no others, and many programs start one for its larger stack.
_AS_FUNCTION = """\
_PROGRAM = compile({source!r}, "<program>", "exec", dont_inherit=True)


def {name}(text):
    import contextlib, io, sys
    from threading import Thread

    class Kept(io.BytesIO):
        def close(self):
            pass

    def opened(file, mode="r", *more, **options):
        stream = {{0: sys.stdin, "/dev/stdin": sys.stdin, 1: sys.stdout, "/dev/stdout": sys.stdout}}.get(file)
        if stream is None:
            return open(file, mode, *more, **options)
        return stream.buffer if "b" in mode else stream

    printed = io.TextIOWrapper(Kept(), "utf-8", newline="")
    before = sys.stdin, Thread.start, Thread.join
    sys.stdin = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8")
    Thread.start, Thread.join = Thread.run, lambda *_, **__: None
    names = {{"__name__": "__main__", "open": opened, "exit": sys.exit, "quit": sys.exit}}
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            exec(_PROGRAM, {{**globals(), **names}})
    finally:
        sys.stdin, Thread.start, Thread.join = before
    printed.flush()
    return printed.buffer.getvalue().decode()
"""


def script_as_function(source: str, name: str = _PRINTED) -> str:
    """A program as one that defines a function: from standard input to what is printed."""
    return _AS_FUNCTION.format(source=source, name=name)


def runnable(task: Task, candidate: Candidate) -> Candidate:
    """The candidate as the sandbox runs it: for a program's cases, as a function of the input."""
    if not task.program:
        return candidate
    module = tree(candidate.source)
    function = _function(module, task.entry_point) if module else None
    uncalled = module and function and takes_nothing(function) and not _mentions(module, function)
    call = f"\n{task.entry_point}()\n" if uncalled else ""
    return replace(candidate, source=script_as_function(candidate.source + call))


def case_lines(cases: Iterable[Case], function: str = _PRINTED) -> tuple[tuple[TestLine, ...], tuple[str, ...]]:
    """One assert for each case, and a sentence for each that is left out. function: what gives the output for an input."""
    lines: list[str] = []
    problems: list[str] = []
    for number, case in enumerate(cases):
        line = f"assert {SAME_OUTPUT}({function}({case.input!r}), {case.output!r})"
        if len(line) > MAX_LINE_CHARS:
            problems.append(f"cases[{number}] has {len(line)} characters as a test line, must have {MAX_LINE_CHARS} or fewer")
        else:
            lines.append(line)
    return tuple(TestLine(line) for line in dict.fromkeys(lines)), tuple(problems)


def prompt_cases(task: Task) -> tuple[Case, ...]:
    """The samples in a program's prompt: in its comments, its docstring, and the docstring of the function that is written."""
    if language_of(task.prompt) == "prose":
        return sample_cases(clean(task.prompt))
    module = program_of(task.prompt, task.suffix)
    function = _function(module, task.entry_point) if module else None
    documented = [node for node in (module, function) if node is not None]
    texts = [*(ast.get_docstring(node) or "" for node in documented), *_comments(task.prompt)]
    return tuple(dict.fromkeys(case for text in texts for case in sample_cases(text)))


def function_of(task: Task) -> Function | None:
    """The function at the margin that is written, if it is one."""
    module = program_of(task.prompt, task.suffix)
    return _function(module, task.entry_point) if module else None


def takes_nothing(function: Function) -> bool:
    """Whether it can be called without arguments."""
    arguments = function.args
    return isinstance(function, ast.FunctionDef) and not [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]


def stands_for_a_program(function: Function) -> bool:
    """Whether it is a function of the whole input, by its header: one text to a text."""
    arguments = [*function.args.posonlyargs, *function.args.args]
    annotations = [*(argument.annotation for argument in arguments), function.returns]
    is_text = [isinstance(annotation, ast.Name) and annotation.id == "str" for annotation in annotations]
    return isinstance(function, ast.FunctionDef) and is_text == [True, True] and not function.args.kwonlyargs


def function_cases(function: Function) -> tuple[Case, ...]:
    """The samples in the docstring of a function that stands for a program, where the docstring is a program's statement."""
    text = ast.get_docstring(function) or ""
    if stands_for_a_program(function) and (TAKES_INPUT in text or _RULED_INPUT.search(text)):
        return sample_cases(text)
    return ()


def is_used(task: Task, function: Function) -> bool:
    """Whether the task's program mentions the function outside of it."""
    module = program_of(task.prompt, task.suffix)
    return module is not None and _mentions(module, function)


def _mentions(module: ast.Module, function: Function) -> bool:
    within = set(ast.walk(function))
    names = (node for node in ast.walk(module) if isinstance(node, ast.Name) and node.id == function.name)
    return any(name not in within for name in names)


def _function(module: ast.Module, name: str | None) -> Function | None:
    named = [node for node in module.body if isinstance(node, FUNCTIONS) and node.name == name]
    return named[-1] if named else None


def _comments(prompt: str) -> Iterator[str]:
    """The blocks of comments at the margin, without their `#`."""
    block: list[str] = []
    for line in [*clean(prompt).split("\n"), ""]:
        if line.startswith("#"):
            block.append(line.lstrip("#").removeprefix(" "))
        elif block:
            yield "\n".join(block)
            block = []
