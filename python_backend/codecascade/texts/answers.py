"""Finds the code in what a model wrote: models think aloud, wrap code in prose and fences, and correct themselves.

Knows nothing of the prompt. Everything here takes hostile text, and work is bounded.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import dedent

from markdown_it import MarkdownIt

from codecascade.texts.blocks import Block, joined, mentions, only_imports
from codecascade.texts.repairs import is_prose, open_string, repaired
from codecascade.texts.syntax import FUNCTIONS, has_body, tree

_PYTHON_TAGS = frozenset(("", "python", "python2", "python3", "py", "py3", "pycon", "ipython", "ipython3"))
# Fences and quotations alone. Without the rule for indented code a fence may stand as far right as the model likes, and with it
# in an item of a list. The rule for lists takes quadratic time on some texts.
_MARKDOWN = MarkdownIt("zero").enable(["fence", "blockquote"])
_MARKDOWN.core.ruler.disable("inline")
_MARKDOWN_CHARS = 60_000  # read in all, each time anew when a fence proves to be part of a string
_FENCES_IN_STRINGS = 8
_MASK = ("\ue000", "\ue001")  # stand for a backtick and a tilde that are no fence

_FENCE = re.compile(r"^[ \t]*(?:(?:[-*+>]|\d+[.)])[ \t]*)*(?:`{3,}|~{3,})(?P<info>[^\n`]*)$", re.MULTILINE)
_FENCE_BESIDE_MARKER = re.compile(r"^[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]+(?=(?:`{3,}|~{3,})[^`\n]*$)", re.MULTILINE)
_ONE_LINE_BLOCK = re.compile(
    r"^([ \t]*)(`{3,8})(?!`)(?:[ \t]*(?:python3?|py)\b)?[ \t]*([^\s`][^\n]*?)\2[ \t]*$", re.MULTILINE | re.IGNORECASE
)
_FENCE_AT_LINE_END = re.compile(
    r"^(?![ \t]*(?:(?:[-*+>]|\d+[.)])[ \t]*)*`)([ \t]*[^`\s][^`\n]*)(?<!\"\"\")(?<!''')(`{3,}(?:python3?|py)?)[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)
_TAGGED = re.compile(r"^[ \t]*\[PYTHON\](.*?)(?:\[/PYTHON\]|\Z)", re.MULTILINE | re.DOTALL | re.IGNORECASE)
_TAG_END = re.compile(r"\[/PYTHON\]", re.IGNORECASE)

_THOUGHT = "think|thinking|thought|thoughts|reasoning|reflection|analysis|scratchpad"
_REASONING = re.compile(rf"^[ \t]*(?:<({_THOUGHT})\b[^>\n]*>|\[(THINK)\]|◁(think)▷)", re.MULTILINE | re.IGNORECASE)
_REASONING_END = re.compile(rf"(?:</(?:{_THOUGHT})>|\[/THINK\]|◁/think▷)[ \t]*$", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Code:
    """The part of an answer that is code."""

    text: str
    ended: bool
    """Whether its block is closed. Otherwise the answer ends in it."""


def code_in(text: str, name: str | None, in_block: bool) -> Code:
    """The part of an answer that is code; `in_block`: the answer starts inside a code block.

    Of several blocks the last one that defines the function counts, with what it needs of the others.
    """
    text = _without_reasoning(text)
    blocks = list(_blocks(text, in_block))
    if not blocks:
        return Code(_without_language(text), False)
    main = _main(blocks, name)
    return Code(joined(blocks, main, name), blocks[main].closed)


def _without_reasoning(text: str) -> str:
    """The answer without what the model thought before it. Nothing is left of a thought that does not end."""
    kept, position = [], 0
    while opening := _REASONING.search(text, position):
        kept.append(text[position : opening.start()])
        tag = next(filter(None, opening.groups()))
        closing = re.compile(rf"(?:</|\[/|◁/){tag}[>\]▷]", re.IGNORECASE).search(text, opening.end())
        position = closing.end() if closing else len(text)
    text = "".join([*kept, text[position:]])
    ends = list(_REASONING_END.finditer(text))  # the prompt began the thought
    return text[ends[-1].end() :] if ends else text


def _blocks(text: str, in_block: bool) -> Iterator[Block]:
    """The code blocks in order; none if the text has neither fence nor tag."""
    end, tagged = _TAG_END.search(text), list(_TAGGED.finditer(text))
    head_ends = in_block and end is not None and not (tagged and tagged[0].start() < end.start())
    if end and head_ends:
        yield Block(text[: end.start()], python=True, closed=True)
    for match in tagged:
        code = match.group(1)
        yield from list(_in_markdown(code, False)) or [Block(code.strip("\n"), python=True, closed=match.end() < len(text))]
    if not (head_ends or tagged):
        yield from _in_markdown(text, in_block)


def _in_markdown(text: str, in_block: bool) -> Iterator[Block]:
    """The blocks with fences."""
    if "```" not in text and "~~~" not in text:
        return
    text = _FENCE_BESIDE_MARKER.sub(lambda marker: " " * len(marker.group()), text)
    text = _ONE_LINE_BLOCK.sub(r"\1\2python\n\1\3\n\1\2", text)
    text = _FENCE_AT_LINE_END.sub(r"\1\n\2", text)
    yield from _fenced(f"```python\n{text}" if in_block and _starts_with_code(text) else text)


def _starts_with_code(text: str) -> bool:
    """Whether the first fence ends a block: a fence with a language opens one, and so does one below prose or nothing."""
    fences = itertools.islice(_FENCE.finditer(text), _FENCES_IN_STRINGS)
    fence = next((fence for fence in fences if open_string(text[: fence.start()]) is None), None)
    if fence is None:
        return True
    head = [line for line in text[: fence.start()].split("\n") if line.strip()]
    return not fence["info"].strip() and any(not is_prose(line) for line in head)


def _fenced(text: str) -> Iterator[Block]:
    """The blocks as CommonMark has them, but a fence within a string of the program does not end it."""
    lines = text.split("\n")
    for _ in range(max(1, _MARKDOWN_CHARS // (len(text) + 1))):
        tokens = [(token, token.map) for token in _MARKDOWN.parse("\n".join(lines)) if token.type == "fence" and token.map]
        inside = next((place[1] - 1 for token, place in tokens if _ends_in_a_string(token.content, place[1], lines)), None)
        if inside is None:
            break
        lines[inside] = lines[inside].replace("`", _MASK[0]).replace("~", _MASK[1])
    for token, place in tokens:
        content = token.content.replace(_MASK[0], "`").replace(_MASK[1], "~")
        yield Block(
            _without_language(content), python=_tag(token.info) in _PYTHON_TAGS, closed=_is_closed(place, lines, token.markup)
        )


def _ends_in_a_string(content: str, end: int, lines: list[str]) -> bool:
    """Whether a block that ends before line `end` stops within a string which goes on below it."""
    quotes = open_string(content)
    return quotes is not None and any(quotes in line for line in lines[end:])


def _is_closed(place: Sequence[int], lines: list[str], markup: str) -> bool:
    first, end = place
    return first < end - 1 < len(lines) and lines[end - 1].strip(" \t>").startswith(markup)


def _tag(info: str) -> str:
    word = re.search(r"[\w+#-]+", info)
    return word.group().lower() if word else ""


def _without_language(code: str) -> str:
    """The code without a first line that is the name of the language."""
    first, _, rest = code.lstrip("\n").partition("\n")
    language = first.strip().lower()
    return rest if language and language in _PYTHON_TAGS else code


def _main(blocks: list[Block], name: str | None) -> int:
    """The number of the block that counts: the last that defines the function, and does so in whole if one does, or the first."""
    defining = [number for number, block in enumerate(blocks) if mentions(block.text, name)]
    defining = [number for number in defining if blocks[number].python] or defining
    for read in (str, repaired):
        for number in reversed(defining):
            if name and _is_whole(dedent(read(blocks[number].text)), name.rpartition(".")[2]):
                return number
    if defining:
        return defining[-1]
    python = [number for number, block in enumerate(blocks) if block.python]
    return next((number for number in python if not only_imports(blocks[number].text)), python[0] if python else 0)


def _is_whole(code: str, name: str) -> bool:
    """Whether the code parses, and the function in it, if it is one, has a body."""
    module = tree(code)
    functions = [node for node in ast.walk(module) if isinstance(node, FUNCTIONS) and node.name == name] if module else []
    return module is not None and (not functions or any(map(has_body, functions)))
