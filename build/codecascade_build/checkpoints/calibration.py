"""Writes the texts that a quantisation is calibrated with: functions of Python's own standard library. Downloads nothing.

Writes FOLDER/train.jsonl, which `datasets` reads as a data set with a split `train` and a column `text`: what TensorRT-LLM's
quantize.py expects of a local folder. The texts look like a tier's requests and answers, in its prompt style.
"""

from __future__ import annotations

import ast
import json
import sysconfig
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from codecascade.texts.prompts import solution_prompt
from codecascade.types import Task

from codecascade_build.errors import BuildError

SAMPLES = 512
_LINES = range(6, 61)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def _command(
    folder: Annotated[Path, typer.Argument(help="Where to write train.jsonl.")],
    style: Annotated[str, typer.Option(help="The prompt style: base, alpaca or chatml.")],
    samples: Annotated[int, typer.Option(help="How many texts.")] = SAMPLES,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"text": text}) + "\n" for text in texts(style, samples))
    (folder / "train.jsonl").write_text("".join(lines), encoding="utf-8")


def texts(style: str, samples: int, library: Path | None = None) -> list[str]:
    """The same texts on every run with the same Python. Raises BuildError if there are too few functions.

    library: a folder of modules; default: the standard library.
    """
    library = library or Path(sysconfig.get_path("stdlib"))
    functions = [function for path in sorted(library.glob("*.py")) for function in _functions(path)]
    if len(functions) < samples:
        raise BuildError(f"{library} has {len(functions)} functions to calibrate with, {samples} are needed.")
    return [_text(style, task, body) for task, body in functions[:: len(functions) // samples][:samples]]


def _text(style: str, task: Task, body: str) -> str:
    prompt = solution_prompt(style, task)
    return prompt.text + (body if prompt.prefix else f"\n{task.prompt}{body}")


def _functions(path: Path) -> Iterator[tuple[Task, str]]:
    """Functions with a docstring: the task is all up to its end, the answer is the rest."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef) or ast.get_docstring(node) is None or len(node.body) < 2:
            continue
        first, end = node.lineno - 1, node.body[0].end_lineno
        if end is None or node.end_lineno is None or node.end_lineno - first not in _LINES:
            continue
        whole = textwrap.dedent("".join(lines[first : node.end_lineno]))
        head = "".join(whole.splitlines(keepends=True)[: end - first])
        yield Task(head, node.name), whole[len(head) :]


if __name__ == "__main__":
    app()
