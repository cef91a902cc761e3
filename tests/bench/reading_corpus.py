"""Answers as models write them, and what their programs have to compute: `reading_corpus.toml`, once in each style."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codecascade.texts.programs import candidate
from codecascade.texts.prompts import STYLES, solution_prompt
from codecascade.types import Candidate, Task

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CORPUS = Path(__file__).with_name("reading_corpus.toml")


@dataclass(frozen=True)
class Answer:
    """One answer in one style."""

    kind: str
    name: str
    style: str
    task: Task
    text: str
    call: str
    value: str
    """What the call gives, as Python writes it."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}, {self.style}"

    def read(self) -> Candidate:
        return candidate(self.task, solution_prompt(self.style, self.task), self.text)


def answers() -> Iterator[Answer]:
    document = tomllib.loads(CORPUS.read_text(encoding="utf-8"))
    for answer in document["answers"]:
        task = document["tasks"][answer["task"]]
        for style in answer.get("styles", STYLES):
            yield Answer(
                kind=answer["kind"],
                name=answer["name"],
                style=style,
                task=Task(task["prompt"], task["entry_point"]),
                text=answer["text"],
                call=answer.get("call", task["call"]),
                value=answer.get("value", task["value"]),
            )
