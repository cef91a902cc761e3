"""The README's tables are those of the code. `python -m tests.unit.test_readme` writes them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from codecascade.tiers.contract import INPUTS, OUTPUTS, Tensor
from codecascade.triton.settings import PREFIX, ServerSettings
from codecascade_build.paths import ROOT
from codecascade_client.gateway.settings import GATEWAY_PREFIX, GatewaySettings
from codecascade_client.settings import Settings
from pydantic.fields import FieldInfo

README = ROOT / "README.md"
# What reads the settings that no settings class holds.
OTHERS = (
    ("CODECASCADE_CACHE", "build", "Folder of everything that is downloaded; default `var/cache`."),
    ("CODECASCADE_WEIGHTS", "build", "Folder with weights of your own, used where they lie if their hash is right."),
    ("HF_ENDPOINT", "build", "Another Hugging Face hub, or a mirror that answers as one."),
    ("CODECASCADE_DRAIN_S", "image", "Seconds that requests under way have to end when the server is stopped; default 10."),
    ("CODECASCADE_HEALTH_PORT", "image", "The port of the supervisor's probes and metrics; default 8003."),
    (
        "CODECASCADE_RESTARTS",
        "image",
        "Restarts of the server within ten minutes, one more ends the container; default 5. 0: only probes are told.",
    ),
    ("CODECASCADE_START_S", "image", "Seconds after which a restart has failed; default 1800."),
    ("CODECASCADE_RANKS", "image", "GPUs that the server's one engine is split over; default 1."),
    ("CODECASCADE_RANK_MODEL", "image", "The model that the further ranks load: their part of the engine."),
)


def settings_table() -> str:
    rows = [*_fields("client", Settings.model_fields), *_fields("gateway", GatewaySettings.model_fields, GATEWAY_PREFIX)]
    rows += _fields("server", ServerSettings.model_fields)
    rows += [(f"`{name}`", reader, meaning) for name, reader, meaning in OTHERS]
    return _table(("variable", "read by", ""), rows)


def contract_tables() -> str:
    inputs = [(f"`{tensor.name}`", _type(tensor, optional=not tensor.required), _meaning(tensor)) for tensor in INPUTS]
    outputs = [(f"`{tensor.name}`", _type(tensor), tensor.meaning) for tensor in OUTPUTS]
    return _table(("input", "type", ""), inputs) + "\n" + _table(("output", "type", ""), outputs)


TABLES = {"settings": settings_table, "tier contract": contract_tables}


def _fields(reader: str, fields: dict[str, FieldInfo], prefix: str = PREFIX) -> list[tuple[str, str, str]]:
    return [
        (
            f"`{prefix}{name.upper()}`",
            reader,
            f"{field.description}" + (f" Default {field.default}." if field.default not in (None, False) else ""),
        )
        for name, field in fields.items()
    ]


def _type(tensor: Tensor, optional: bool = False) -> str:
    return f"{tensor.datatype}[{tensor.length}]" + (", optional" if optional else "")


def _meaning(tensor: Tensor) -> str:
    ranged = f"; {tensor.low:g} to {tensor.high:g}" if tensor.datatype == "FP32" else ""
    default = f"; default {tensor.default}" if tensor.default not in (None, ()) else ""
    return f"{tensor.meaning}{ranged}{default}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n".replace("|  |", "| |") for cells in lines)


def _place(name: str, text: str) -> tuple[int, int]:
    """Where the table stands in the README."""
    part = re.search(rf"<!-- {name}: [^>]*-->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert part, name
    return part.span(1)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_that_of_the_code(name: str) -> None:
    text = README.read_text(encoding="utf-8")
    assert text[slice(*_place(name, text))].strip() == TABLES[name]().strip()


def test_every_setting_that_anything_reads_is_in_the_readme() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z", "build"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [Path(ROOT, name) for name in tracked.split("\0") if name and Path(ROOT, name).suffix != ".json"]
    named = {name for path in files for name in re.findall(r"\bCODECASCADE_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8"))}
    assert len(named) > 10
    readme = README.read_text(encoding="utf-8")
    assert [name for name in sorted(named) if f"`{name}`" not in readme] == []


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        start, end = _place(name, text)
        text = f"{text[:start]}\n{table()}\n{text[end:]}"
    README.write_text(text, encoding="utf-8")
