"""Captures the contract of the TensorRT-LLM that is installed: python3 build/contracts/capture.py > build/contracts/1.2.1.json

Runs inside the TensorRT-LLM image, and needs the project's protobufs of Triton (tritonclient). Commands are read from their
argument parsers, models from the templates of the image, classes from their signatures. What is not there is an error.
`behaviour` was read from sources; it is kept as it is.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import re
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

COMMITTED = Path(__file__).resolve().parent / "1.2.1.json"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--templates", type=Path, default=Path("/app/all_models/inflight_batcher_llm"))
    parser.add_argument("--quantize", type=Path, default=Path("/app/examples/quantization/quantize.py"))
    chosen = parser.parse_args(arguments)
    before = json.loads(COMMITTED.read_text(encoding="utf-8"))
    json.dump(capture(before, chosen.templates, chosen.quantize), sys.stdout, indent=2)
    print()


def capture(before: dict[str, Any], templates: Path, quantize: Path) -> dict[str, Any]:
    """The contract as it is here, for the same commands, models and names as in `before`."""
    tensorrt_llm = importlib.import_module("tensorrt_llm")
    parsers: dict[str, Callable[[], argparse.ArgumentParser]] = {
        "trtllm-build": build_parser,
        "quantize.py": lambda: script_parser(quantize),
    }
    commands = {
        name: {"source": "the image", "flags": flags_of(parsers[name]()), "gone": command["gone"]}
        for name, command in before["commands"].items()
    }
    for command in commands.values():
        command["gone"] = {flag: instead for flag, instead in command["gone"].items() if flag not in command["flags"]}
    return {
        "format": 1,
        "tensorrt_llm": tensorrt_llm.__version__,
        "captured": "image",
        "note": "Captured inside the image by build/contracts/capture.py.",
        "commands": commands,
        "models": {
            name: {"source": "the image", **model_of((templates / name / "config.pbtxt").read_text(encoding="utf-8"))}
            for name in before["models"]
        },
        "behaviour": before["behaviour"],
        "signatures": {name: {"source": "the image", "parameters": parameters_of(named(name))} for name in before["signatures"]},
    }


def build_parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = importlib.import_module("tensorrt_llm.commands.build").parse_arguments()
    return parser


def script_parser(script: Path) -> argparse.ArgumentParser:
    """The parser of a script that makes and uses it under `__main__`: the script is stopped where it would parse."""

    class Stopped(Exception):
        pass

    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        value.append(parser)
        raise Stopped

    value: list[argparse.ArgumentParser] = []
    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except Stopped:
            return value[0]
    raise SystemExit(f"{script} parses no arguments.")


def flags_of(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Every long flag: what it takes and which values."""
    flags: dict[str, Any] = {}
    for action in parser._actions:
        for flag in action.option_strings:
            if flag.startswith("--") and flag != "--help":
                flags[flag] = _flag(action)
    return flags


def model_of(template: str) -> dict[str, Any]:
    """Tensors and parameters of a config.pbtxt with ${placeholders}; a type that is one stays as it is written."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    placeholders = dict(re.findall(r'name:\s*"(\w+)"\s*data_type:\s*(\$\{\w+\})', template))
    text = re.sub(r"data_type:\s*\$\{\w+\}", "data_type: TYPE_INVALID", template)
    text = re.sub(r"decoupled:\s*\$\{\w+\}", "decoupled: false", text)
    text = re.sub(r'(?<!")\$\{\w+\}(?!")', "1", text)
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    data_type = model_config_pb2.DataType.Name
    return {
        "backend": config.backend or config.platform,
        "inputs": {
            tensor.name: {
                "type": placeholders.get(tensor.name) or data_type(tensor.data_type),
                "dims": list(tensor.dims),
                **({"optional": True} if tensor.optional else {}),
            }
            for tensor in config.input
        },
        "outputs": {
            tensor.name: {"type": placeholders.get(tensor.name) or data_type(tensor.data_type), "dims": list(tensor.dims)}
            for tensor in config.output
        },
        "parameters": {key: config.parameters[key].string_value for key in config.parameters},
    }


def named(name: str) -> Callable[..., Any]:
    """`package.module.Class.method` → the thing."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:]:
            value = getattr(value, part)
        return value  # type: ignore[no-any-return]
    raise SystemExit(f"There is no {name}.")


def parameters_of(function: Callable[..., Any]) -> list[dict[str, Any]]:
    """Name, default and kind (POSITIONAL_OR_KEYWORD where it is not said) of each parameter, in order."""
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        entry: dict[str, Any] = {"name": parameter.name}
        if parameter.default is not parameter.empty:
            entry["default"] = repr(parameter.default)
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            entry["kind"] = parameter.kind.name
        parameters.append(entry)
    return parameters


def _flag(action: argparse.Action) -> dict[str, Any]:
    if action.nargs == 0:
        return {"type": "flag"}
    kind: Any = action.type or str
    entry: dict[str, Any] = {"type": kind.__name__ if kind in (int, float) else "str"}
    if action.choices is not None:
        entry["choices"] = list(action.choices)
    elif getattr(kind, "__name__", "") == "parse_enum":  # trtllm-build's own way to take an enum
        entry["choices"] = ["continuous", "paged", "disabled"]
    if action.nargs is not None:
        entry["nargs"] = action.nargs
    return entry


if __name__ == "__main__":
    main()
