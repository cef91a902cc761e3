"""What TensorRT-LLM's commands, Triton models and classes look like at one version, as data: build/contracts/<version>.json.

A command that is not of that form is refused before anything is downloaded, and a test says so before that.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from codecascade_build.errors import BuildError
from codecascade_build.paths import CONTRACTS

VERSION = "1.2.1"


@dataclass(frozen=True, slots=True)
class Flag:
    """type: str, int, float or flag (which takes no value). choices: the values that are allowed, if not all are."""

    type: str
    choices: tuple[str, ...] | None = None
    many: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A command's flags. gone: flags of other versions → what does their work now, if anything does."""

    name: str
    flags: Mapping[str, Flag]
    gone: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Contract:
    """models: of the inflight_batcher_llm templates; signatures: by full name. Both as in the file."""

    version: str
    commands: Mapping[str, Command]
    models: Mapping[str, Any]
    signatures: Mapping[str, Any]


@cache
def load_contract(version: str = VERSION) -> Contract:
    """Raises BuildError if there is none or it cannot be read."""
    path = CONTRACTS / f"{version}.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        commands = {name: _command(name, command) for name, command in data["commands"].items()}
        return Contract(data["tensorrt_llm"], commands, data["models"], data["signatures"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BuildError(f"The contract {path} cannot be read: {error}.") from error


def check_argv(contract: Contract, argv: Sequence[str]) -> None:
    """Raises BuildError if a command of the contract is called as it cannot be. Other commands pass."""
    for command, arguments in _calls(contract, argv):
        _check(contract, command, arguments)


def _calls(contract: Contract, argv: Sequence[str]) -> Iterator[tuple[Command, Sequence[str]]]:
    for place, word in enumerate(argv):
        command = contract.commands.get(Path(word).name)
        if command:
            yield command, argv[place + 1 :]
            return


def _check(contract: Contract, command: Command, arguments: Sequence[str]) -> None:
    at = f"{command.name} of TensorRT-LLM {contract.version}"
    left = list(arguments)
    seen: set[str] = set()
    while left:
        word = left.pop(0)
        flag = command.flags.get(word)
        if word in command.gone:
            instead = command.gone[word]
            raise BuildError(f"{at} has no {word} any more{f' ({instead})' if instead else ''}.")
        if flag is None:
            near = difflib.get_close_matches(word, command.flags, n=1)
            raise BuildError(f"{at} has no {word}{f', but {near[0]}' if near else ''}.")
        if word in seen:
            raise BuildError(f"{at} is given {word} twice.")
        seen.add(word)
        if flag.type == "flag":
            continue
        if not left or left[0].startswith("--"):
            raise BuildError(f"{at} needs a value for {word}.")
        _check_value(at, word, flag, left.pop(0))
        while flag.many and left and not left[0].startswith("--"):
            _check_value(at, word, flag, left.pop(0))


def _check_value(at: str, word: str, flag: Flag, value: str) -> None:
    if flag.choices is not None and value not in flag.choices:
        raise BuildError(f"{at} takes for {word} {', '.join(flag.choices)}, not {value!r}.")
    try:
        {"int": int, "float": float}.get(flag.type, str)(value)
    except ValueError as error:
        raise BuildError(f"{at} takes for {word} {'an' if flag.type == 'int' else 'a'} {flag.type}, not {value!r}.") from error


def _command(name: str, data: Mapping[str, Any]) -> Command:
    flags = {}
    for flag, what in data["flags"].items():
        choices = tuple(str(choice) for choice in what["choices"] if choice is not None) if "choices" in what else None
        flags[flag] = Flag(what["type"], choices, many=what.get("nargs") in ("+", "*"))
    return Command(name, flags, data["gone"])
