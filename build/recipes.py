"""Recipes: what a model family is made of. One typed file per family, build/families/<family>.toml."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from codecascade.prompts import STYLES
from errors import BuildError
from paths import FAMILIES
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_STRICT = ConfigDict(extra="forbid")
_NAME = r"^[a-z0-9][a-z0-9._-]*$"
_FILE = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

Name = Annotated[str, Field(pattern=_NAME)]
FileName = Annotated[str, Field(pattern=_FILE)]
Positive = Annotated[int, Field(gt=0, strict=True)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True, config=_STRICT)
class HuggingFace:
    """A file of the same name in a repository of the Hugging Face hub, at `revision`."""

    repository: Annotated[str, Field(pattern=r"^[^/\s]+/[^/\s]+$")]
    revision: str


@dataclass(frozen=True, slots=True, config=_STRICT)
class PackageIndex:
    """A file in parts, each inside one wheel of the package index.

    `package` and `member` (the path inside the wheel) are templates over {part}, which runs from 1 to `parts`.
    """

    package: str
    version: str
    parts: Positive
    member: str

    def __post_init__(self) -> None:
        for template in (self.package, self.member):
            if "{part" not in template or _format(template, 1) is None:
                raise ValueError(f"{template!r} is not a template over {{part}}")

    def requirements(self) -> tuple[str, ...]:
        """The pinned packages, in the order in which their parts are joined."""
        return tuple(f"{self.package.format(part=part)}=={self.version}" for part in range(1, self.parts + 1))

    def members(self) -> tuple[str, ...]:
        """The path of each part inside its wheel, in the same order."""
        return tuple(self.member.format(part=part) for part in range(1, self.parts + 1))


@dataclass(frozen=True, slots=True, config=_STRICT)
class Weights:
    """One file and where it can be had. The hash decides, whatever the source."""

    file: FileName
    bytes: Positive
    sha256: Sha256
    hugging_face: HuggingFace | None = None
    package_index: PackageIndex | None = None


@dataclass(frozen=True, slots=True, config=_STRICT)
class LlamaCpp:
    """A tier run by llama.cpp in process. price_per_mtok: US dollars per 1M generated tokens.

    slots: calls served at a time, each on its share of the cores.
    """

    price_per_mtok: Price
    context_tokens: Positive
    max_completion_tokens: Positive
    slots: Positive
    weights: Weights

    def __post_init__(self) -> None:
        if self.max_completion_tokens >= self.context_tokens:
            raise ValueError(
                f"max_completion_tokens {self.max_completion_tokens} leaves no room in context_tokens {self.context_tokens}"
            )


Runtime = Literal["llama_cpp"]
RUNTIMES: tuple[Runtime, ...] = ("llama_cpp",)


@dataclass(frozen=True, slots=True, config=_STRICT)
class Tier:
    """One model of the family, with the settings of each runtime that can serve it."""

    name: Name
    style: str
    llama_cpp: LlamaCpp | None = None

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ValueError(f"style {self.style!r} is not one of {', '.join(STYLES)}")


@dataclass(frozen=True, slots=True, config=_STRICT)
class Recipe:
    """A family's tiers, small to large."""

    format: Literal[1]
    family: Name
    tiers: Annotated[tuple[Tier, ...], Field(min_length=1)]

    def __post_init__(self) -> None:
        names = [tier.name for tier in self.tiers]
        if len(set(names)) < len(names):
            raise ValueError(f"tiers {', '.join(names)} do not all have their own name")


def families() -> tuple[str, ...]:
    """The families that have a recipe."""
    return tuple(sorted(path.stem for path in FAMILIES.glob("*.toml")))


def load_recipe(family: str) -> Recipe:
    """The recipe of a family. Raises BuildError if there is none or it is wrong."""
    if family not in families():
        raise BuildError(f"There is no recipe for the family {family!r}; there are {', '.join(families())}.")
    return read_recipe(FAMILIES / f"{family}.toml")


def read_recipe(path: Path) -> Recipe:
    """Read and check one recipe file. Raises BuildError naming the file, the key, its value and what is allowed."""
    try:
        return parse_recipe(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise BuildError(f"The recipe {path} cannot be used: {_sentence(error)}.") from error
    except (OSError, ValueError) as error:
        raise BuildError(f"The recipe {path} cannot be read: {error}.") from error


def parse_recipe(document: dict[str, Any]) -> Recipe:
    """Raises pydantic.ValidationError."""
    return TypeAdapter(Recipe).validate_python(document)


def _sentence(error: ValidationError) -> str:
    unknown = ("unexpected_keyword_argument", "extra_forbidden")
    first = min(error.errors(), key=lambda each: each["type"] not in unknown)  # a misspelt key explains a missing one
    key = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] in unknown:
        return f"{key} is not a known key"
    if first["type"] == "missing":
        return f"{key} is missing"
    value = first["input"]
    shown = f" is {value!r}" if isinstance(value, (str, int, float)) else ""
    reason = re.sub(r"^(Value error, |Input )", "", first["msg"])
    return f"{key}{shown}: {reason}"


def _format(template: str, part: int) -> str | None:
    try:
        return template.format(part=part)
    except (LookupError, ValueError):
        return None
