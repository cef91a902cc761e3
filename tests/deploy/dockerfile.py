"""Reads the Dockerfiles, as far as the tests need it."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from codecascade_build.paths import ROOT

IMAGES = ROOT / "build" / "images"


@dataclass(frozen=True, slots=True)
class Instruction:
    name: str
    text: str


def read(kind: str) -> list[Instruction]:
    """Every instruction of build/images/Dockerfile.<kind>, in order."""
    lines = [line for line in (IMAGES / f"Dockerfile.{kind}").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def last_stage(kind: str) -> list[Instruction]:
    """The instructions that make the image."""
    instructions = read(kind)
    start = max(position for position, instruction in enumerate(instructions) if instruction.name == "FROM")
    return instructions[start:]


def texts(instructions: list[Instruction], name: str) -> list[str]:
    return [instruction.text for instruction in instructions if instruction.name == name]


def environment(kind: str) -> dict[str, str]:
    pairs = [pair.partition("=") for text in texts(last_stage(kind), "ENV") for pair in shlex.split(text)]
    return {name: value for name, _, value in pairs}


def copy_into(kind: str, root: Path) -> None:
    """Do what the last stage's COPY instructions do, below `root`."""
    for text in texts(last_stage(kind), "COPY"):
        source, target = text.split()
        place = root / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, place)
