"""Reads the tests that a prompt gives: its docstring's and comments' own examples of what the function returns.

Forms: doctest (`>>> f(2)`), arrows (`f(2) == 4`, `=>`, `->`, `➞`), words (`f(2) returns 4`, `for n = 2 the output should be 4`)
and "Input: … Output: …". Each becomes one assert statement. What is no such form, or holds no literal value, is left out.
A function that stands for a program has samples instead (codecascade.texts.cases).
"""

from __future__ import annotations

import ast
import doctest
import itertools
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TypeAlias

from codecascade.texts.stdin import case_lines, function_cases
from codecascade.texts.syntax import clean, outline, tree
from codecascade.types import Task, TestLine

MAX_EXAMPLES = 50
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_Definition: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef"
_TRIED = 200  # places of one form in a text, which bounds the work on hostile ones
_MAX_LINE_CHARS = 2_000
_BE = r"(?:(?:should|must|will|would)\s+)?(?:is|be|equals?|returns?|yields?|gives?|outputs?|evaluates to)"
_ARROW = r"(?:={1,3}>|[-–—]+>|[➞→⇒➔])"
_LEADS_TO = re.compile(rf"\s*(?:{_ARROW}|[:#]?\s*{_BE}(?:\s*:)?(?=\s)|#\s*{_ARROW}?|={{2,3}}|=(?!=))\s*")
_FOR_VALUES = re.compile(r"\b(?:for|if|when|given|with|example:)\s+(?=[A-Za-z_]\w*\s*=(?!=))", re.IGNORECASE)
_RESULT = re.compile(
    rf"[^\n=]{{0,80}}?\b(?:output|result|answer|return value|function|it)\s+{_BE}\s*:?\s*|\s*,?\s*{_ARROW}\s*", re.IGNORECASE
)
_INPUT_OUTPUT = re.compile(r"\binputs?\s*:\s*(?P<input>[\s\S]{1,500}?)\s*\b(?:expected\s+)?outputs?\s*:\s*(?=\S)", re.IGNORECASE)
_STRING = r"""[rbuRBU]?(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
_ATOM = re.compile(rf"{_STRING}|\d[\d_]*(?:\.\d+)?(?:[eE][-+]?\d+)?|[A-Za-z]+")
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
_BRACKET = re.compile(rf"{_STRING}|[(\[{{)\]}}]")
_JSON_NAME = re.compile(rf"(?P<string>{_STRING})|\b(?P<name>true|false|null|none)\b")
_PYTHON_NAMES = {"true": "True", "false": "False", "null": "None", "none": "None"}
_RUN_DOCTEST = (
    "assert not (lambda d: d.DocTestRunner(verbose=False, optionflags={flags}).run(d.DocTestParser().get_doctest("
    '{text!r}, dict(globals()), "example", None, 0), out=lambda _: None).failed)(__import__("doctest"))'
)


@lru_cache(maxsize=256)
def prompt_examples(task: Task) -> tuple[TestLine, ...]:
    """The examples of the task's function in its prompt, in order, each once. Raises nothing."""
    path = _path(task)
    if not path:
        return ()
    found = dict.fromkeys(line for line in _examples(task, path) if len(line) <= _MAX_LINE_CHARS and tree(line) is not None)
    return tuple(TestLine(line) for line in list(found)[:MAX_EXAMPLES])


def _path(task: Task) -> list[_Definition]:
    """The function that is tested, below the classes around it. Empty if the prompt does not define it."""
    holder: ast.Module | _Definition | None = tree(outline(task.prompt).closed or "")
    path: list[_Definition] = []
    for name in (task.entry_point or "").split("."):
        named = [node for node in holder.body if isinstance(node, _DEFINITIONS) and node.name == name] if holder else []
        if not named:
            return []
        holder = named[-1]
        path.append(holder)
    return [] if isinstance(path[-1], ast.ClassDef) else path


def _examples(task: Task, path: Sequence[_Definition]) -> Iterator[str]:
    """Those of the function's docstring. A class's docstring shows how its methods work together: in doctests alone."""
    *classes, function = path
    for node in classes:
        examples, _ = _parts(node)
        yield from _doctests(examples, function.name)
    examples, prose = _parts(function)
    yield from _doctests(examples, function.name)
    if classes or not isinstance(function, ast.FunctionDef):
        return
    if cases := function_cases(function):
        yield from (line.source for line in case_lines(cases, function.name)[0])
        return
    parameters = [argument.arg for argument in [*function.args.posonlyargs, *function.args.args]]
    prose = "\n".join([prose, *_comments(task.prompt)])
    yield from _calls(prose, function.name)
    yield from _for_values(prose, function.name, parameters)
    yield from _inputs_and_outputs(prose, function.name, parameters)


def _parts(node: _Definition) -> tuple[list[doctest.Example], str]:
    """The doctests of a docstring, and the rest of it."""
    text = clean(ast.get_docstring(node) or "")
    try:
        parts = doctest.DocTestParser().parse(text)
    except ValueError:  # inconsistent blanks: no doctest
        parts = [text]
    examples = [part for part in parts if isinstance(part, doctest.Example)]
    return examples, "\n".join(part for part in parts if isinstance(part, str))


def _comments(prompt: str) -> Iterator[str]:
    """The comments at the margin, without their `#`: examples above or below the header."""
    for line in clean(prompt).split("\n"):
        if line.startswith("#"):
            yield line.lstrip("#")


def _doctests(examples: list[doctest.Example], name: str) -> Iterator[str]:
    """An assert for each example that calls the function; what needs doctest's own comparison is an assert that runs doctest."""
    parsed = [(example, tree(example.source)) for example in examples]
    whole = [(example, module.body) for example, module in parsed if module is not None]
    if all(len(body) == 1 and isinstance(body[0], ast.Expr) for _, body in whole):
        yield from (_plain(example) or _run([example]) for example, _ in whole if name in example.source)
    elif any(name in example.source for example, _ in whole):  # a statement sets what later examples use
        yield _run([example for example, _ in whole])


def _plain(example: doctest.Example) -> str | None:
    """The example as an assert that compares values; None where what is shown is no literal."""
    call, want = example.source.strip(), example.want.strip()
    if "\n" in call or example.exc_msg is not None or example.options:
        return None
    is_call = isinstance(ast.parse(call, mode="eval").body, ast.Call)
    if not want:
        return f"assert {call} is None" if is_call else f"assert {call}"
    value = _literal(want)
    if value is None or value[1].strip():
        return None
    return f"assert {call} == {value[0]}" if is_call else f"assert ({call}) == {value[0]}"


def _run(examples: list[doctest.Example]) -> str:
    text = "".join(
        "".join(f"{'...' if number else '>>>'} {line}\n" for number, line in enumerate(example.source.rstrip("\n").split("\n")))
        + example.want
        for example in examples
    )
    return _RUN_DOCTEST.format(flags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS, text=text)


def _places(form: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    return itertools.islice(form.finditer(text), _TRIED)


def _calls(text: str, name: str) -> Iterator[str]:
    """`name(…) == value` and its other spellings."""
    for match in _places(re.compile(rf"(?<![\w.]){re.escape(name)}(?=\()"), text):
        arguments = _bracketed(text[match.end() :])
        if arguments is None or re.search(r"\S[ \t]*[-+*/%=(][ \t]*$", text[: match.start()]):  # a part of something longer
            continue
        rest = text[match.end() + len(arguments) :].lstrip("`")
        leads_to = _LEADS_TO.match(rest)
        value = leads_to and _value(rest[leads_to.end() :])
        if value and _is_call_of_literals(name + arguments):
            yield f"assert {name}{_python(arguments)} == {value}"


def _for_values(text: str, name: str, parameters: list[str]) -> Iterator[str]:
    """`for n = 2 the output should be 4`."""
    for match in _places(_FOR_VALUES, text):
        keywords, rest = _keywords(text[match.end() :], parameters)
        result = _RESULT.match(rest) if keywords else None
        value = result and _value(rest[result.end() :])
        if value:
            yield f"assert {name}({', '.join(keywords)}) == {value}"


def _inputs_and_outputs(text: str, name: str, parameters: list[str]) -> Iterator[str]:
    """`Input: 2` and `Output: 4`."""
    for match in _places(_INPUT_OUTPUT, text):
        given, value = match["input"].rstrip(" ,;"), _value(text[match.end() :])
        keywords, rest = _keywords(given, parameters)
        arguments = ", ".join(keywords) if keywords and not rest.strip() else _positional(given, len(parameters))
        if value and arguments is not None:
            yield f"assert {name}({arguments}) == {value}"


def _positional(text: str, count: int) -> str | None:
    """`count` literals with commas between them."""
    values = []
    while literal := _literal(text):
        values.append(literal[0])
        text = literal[1].lstrip()
        if not text.startswith(","):
            break
        text = text[1:]
    return ", ".join(values) if len(values) == count and not text.strip() else None


def _keywords(text: str, parameters: list[str]) -> tuple[list[str], str]:
    """`a = 1, b = 2` at the start of the text, and what follows; nothing unless it names every parameter."""
    keywords = []
    while match := re.match(r"\s*(?:,|and)?\s*([A-Za-z_]\w*)\s*(?:=(?!=)|:)\s*", text):
        literal = _literal(text[match.end() :])
        if match[1] not in parameters or literal is None:
            break
        keywords.append(f"{match[1]}={literal[0]}")
        text = literal[1]
    return (keywords, text) if len(keywords) == len(parameters) else ([], text)


def _value(text: str) -> str | None:
    """The literal at the start of the text, unless it is part of something longer. `19 - 5 = 14` has the value 14."""
    literal = _literal(text)
    if literal is None:
        return None
    line = literal[1].partition("\n")[0]
    if not re.match(r"\s*[-+*/%]\s*[\d(]", line):
        return None if re.match(r"[\w(\[]|\.\w|\s*(?:[-+*/%<>=&|^@]|if |and |or |in |for )", line) else literal[0]
    last = _literal(line.rpartition("=")[2]) if "=" in line else None
    return last[0] if last and not last[1].strip(" .") else None


def _literal(text: str) -> tuple[str, str] | None:
    """The longest Python literal at the start of the text, as Python writes it, and what follows it."""
    text = text.lstrip(" \t\n`")
    sign = re.match(r"[-+]?\s*", text)
    start = sign.end() if sign else 0
    if text[start : start + 1] in ("[", "(", "{"):
        group = _bracketed(text[start:])
        end = start + len(group) if group else 0
    else:
        atom = _ATOM.match(text, start)
        end = atom.end() if atom else 0
    source = _python(text[:end])
    try:
        ast.literal_eval(source)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return source, text[end:]


def _bracketed(text: str) -> str | None:
    """The bracket at the start of the text with everything up to its end; strings in it may hold brackets."""
    depth = 0
    for match in _BRACKET.finditer(text[:_MAX_LINE_CHARS]):
        depth += _BRACKETS.get(match[0], 0)
        if depth == 0:
            return text[: match.end()]
    return None


def _python(text: str) -> str:
    """The text with `true`, `false` and `null` as Python writes them, on one line."""
    names = _JSON_NAME.sub(lambda match: match["string"] or _PYTHON_NAMES[match["name"]], text)
    return re.sub(r"\s*\n\s*", " ", names).strip()


def _is_call_of_literals(call: str) -> bool:
    module = tree(_python(call))
    node = module.body[0].value if module and len(module.body) == 1 and isinstance(module.body[0], ast.Expr) else None
    if not isinstance(node, ast.Call):
        return False
    return all(_is_literal(argument) for argument in [*node.args, *(keyword.value for keyword in node.keywords)])


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        return False
    return True
