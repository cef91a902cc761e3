"""What TensorRT-LLM's commands, Triton models and classes look like at one version, as data: build/contracts/<version>.json."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from codecascade_build.errors import BuildError
from codecascade_build.paths import CONTRACTS

VERSION = "1.2.1"


@dataclass(frozen=True, slots=True)
class Contract:
    """One file of build/contracts."""

    version: str
    commands: Mapping[str, Any]
    """By name: its flags, and those of other versions that are gone, each with what does their work now."""
    models: Mapping[str, Any]
    """The inflight_batcher_llm templates by name."""
    signatures: Mapping[str, Any]
    """By full name."""


@cache
def load_contract(version: str = VERSION) -> Contract:
    """Raises BuildError if there is none or it cannot be read."""
    path = CONTRACTS / f"{version}.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Contract(data["tensorrt_llm"], data["commands"], data["models"], data["signatures"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BuildError(f"The contract {path} cannot be read: {error}.") from error


def check_argv(contract: Contract, argv: Sequence[str]) -> None:
    """Raises BuildError if a command of the contract is called as it cannot be. Other commands pass."""
    names = [Path(word).name for word in argv]
    name = next((name for name in names if name in contract.commands), None)
    if name is None:
        return
    at, command, arguments = f"{name} of TensorRT-LLM {contract.version}", contract.commands[name], argv[names.index(name) + 1 :]
    parser = _Parser(prog=at, add_help=False, allow_abbrev=False)
    for flag, what in command["flags"].items():
        if what["type"] == "flag":
            parser.add_argument(flag, action="store_true")
        else:
            kind = {"int": int, "float": float}.get(what["type"], str)
            parser.add_argument(flag, type=kind, choices=what.get("choices"), nargs=what.get("nargs"))
    for word in arguments:
        if word in command["gone"]:
            instead = command["gone"][word]
            raise BuildError(f"{at} has no {word} any more{f' ({instead})' if instead else ''}.")
        if word.startswith("--") and arguments.count(word) > 1:
            raise BuildError(f"{at} is given {word} twice.")
    parser.parse_args(arguments)


class _Parser(ArgumentParser):
    """Reads a command line as TensorRT-LLM does."""

    def error(self, message: str) -> NoReturn:
        raise BuildError(f"{self.prog}: {message}.")
