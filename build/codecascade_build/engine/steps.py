"""From a recipe to TensorRT-LLM engines, as data: which commands, in which order, reading and writing what.

Nothing runs here, so the same steps are printed, checked against the contract of the pinned TensorRT-LLM, and run (runner.py).
Paths in commands are relative to the repository's root, where they run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

from codecascade_build.engine.contract import check_argv, load_contract
from codecascade_build.errors import BuildError
from codecascade_build.gpu_plan.memory import NUM_TOKENS, gib, tier_memory, usable_bytes, whole_blocks
from codecascade_build.gpu_plan.placement import Copy
from codecascade_build.gpus import Gpu
from codecascade_build.paths import ROOT, VAR, cache_dir
from codecascade_build.quantization import AWQ_GROUP, check_settings
from codecascade_build.recipes import GpuTier, Quantization, Recipe, Runtime
from codecascade_build.render.gpu import EngineTier, check_llm_api

IMAGE = "nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3"
MANIFEST = "codecascade.json"
ENGINES = VAR / "engines"
QUANTIZE = Path("/app/examples/quantization/quantize.py")

_QFORMAT: dict[Quantization, str] = {"fp8": "fp8", "int4_awq": "int4_awq", "int8": "int8_wo"}
_CALIBRATION_SAMPLES = {"fp8": 512, "int4_awq": 32, "int8": 32}
_CALIBRATION_TOKENS = 1024
_CALIBRATION_BYTES = 1_000_000
# TensorRT-LLM takes a model, or a data set, for another one where its path has such a name in it, even inside a word.
_MISREAD = {
    **dict.fromkeys(("--model_dir", "--model-dir"), ("mpt", "vila", "llava", "exaone")),
    "--calib_dataset": ("cnn_dailymail", "scienceqa", "science_qa"),
}
_CHECKPOINTS = ROOT / "build" / "codecascade_build" / "checkpoints"
_MODULES = "codecascade_build.checkpoints"
_SCRIPTS = ("env", "PYTHONPATH=build")  # for the image's own Python, which has no codecascade_build
_OFFLINE = ("HF_HUB_OFFLINE=1", "HF_DATASETS_OFFLINE=1")

Where = Literal["here", "image", "gpu"]


@dataclass(frozen=True, slots=True)
class Step:
    """One command for one tier."""

    tier: str
    name: str
    argv: tuple[str, ...]
    inputs: tuple[Path, ...]
    """Files and folders that it reads."""
    outputs: tuple[Path, ...]
    """Files and folders that it writes."""
    where: Where
    """What invalidates a finished step: "here" its inputs; "image" also package versions; "gpu" also the kind of GPU."""
    bytes: int = 0
    """About what the outputs take of a disk."""
    gpu_bytes: int = 0
    """Weights that it loads onto all GPUs of the machine together."""
    resumes: bool = False
    """Whether a second run goes on with what the first one left."""

    def __str__(self) -> str:
        return f"{self.name} of {self.tier}"


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are on this machine."""

    engines: Path = ENGINES
    """What is built goes there."""
    downloads: Path = field(default_factory=lambda: cache_dir() / "checkpoints")
    """Checkpoints of the hub."""
    python: str = "python3"
    """The image's Python."""
    project_python: str = "var/venv/bin/python"
    quantize: Path = QUANTIZE
    """ModelOpt's script, which the image has."""


@dataclass(frozen=True, slots=True)
class EngineBuild:
    """What to build. Made by `engine_build`, which has checked it."""

    family: str
    gpu: Gpu
    tiers: tuple[GpuTier, ...]
    runtime: Runtime = "tensorrt_llm"
    places: Places = field(default_factory=Places)

    def download(self, tier: GpuTier) -> Path:
        return self.places.downloads / tier.checkpoint.repository.replace("/", "--")

    def engine(self, tier: GpuTier) -> Path:
        return self.places.engines / self.family / self.gpu.name / tier.name / "engine"

    def rendered(self, tier: GpuTier, copy: Copy) -> EngineTier:
        """What a tier's Triton models have to know."""
        engine = self.download(tier) if self.runtime == "llm_api" else self.engine(tier)
        return EngineTier(engine, self.download(tier), copy.gpus, copy.kv_cache_tokens)

    def rebuild(self, tier: GpuTier) -> str:
        """The command that builds one engine again."""
        return f"make engines FAMILY={self.family} TIER={tier.name} GPU={self.gpu.name}"


def engine_build(
    recipe: Recipe,
    gpu: Gpu,
    tiers: Sequence[str] = (),
    runtime: Runtime = "tensorrt_llm",
    places: Places | None = None,
) -> EngineBuild:
    """tiers: some by name; none for all. Raises BuildError if any of it cannot be built, before anything is downloaded."""
    if runtime == "llama_cpp":
        raise BuildError(
            "Nothing is built for the runtime llama_cpp; engines are for tensorrt_llm, and llm_api runs checkpoints."
        )
    chosen = tuple(tier.on_gpu(gpu.name, runtime) for tier in recipe.choose(tiers))
    build = EngineBuild(recipe.family, gpu, chosen, runtime, places or Places())
    for tier in chosen:
        _check_tier(tier, gpu, runtime)
    for step in steps(build):
        check_argv(load_contract(), step.argv)
        _check_paths(step.argv)
    return build


def steps(build: EngineBuild) -> tuple[Step, ...]:
    """All steps, in an order in which they can run."""
    made = [step for tier in build.tiers for step in tier_steps(build, tier)]
    unique: dict[tuple[str, ...], Step] = {}
    for step in made:
        unique.setdefault(step.argv, step)  # tiers of one style share their calibration texts
    inputs = tuple(path for step in made if step.name in ("manifest", "check") for path in (step.outputs or step.inputs))
    tiers = (word for tier in build.tiers for word in ("--tier", tier.name))
    argv = (*_own(build, "render"), *tiers, "--runtime", build.runtime)
    return (*unique.values(), Step(build.family, "render", argv, inputs, (), "here"))


def tier_steps(build: EngineBuild, tier: GpuTier) -> Iterator[Step]:
    """The steps that lead to one tier's engine, its manifest last."""
    settings, architecture = tier.settings, tier.checkpoint.architecture
    source, engine = build.download(tier), build.engine(tier)
    stored = architecture.parameters * 2
    weights = tier_memory(architecture, settings).weights * settings.tensor_parallel

    def step(name: str, where: Where, argv: tuple[object, ...], inputs: Sequence[Path], *outputs: Path, **more: int) -> Step:
        words = tuple(relative(word) if isinstance(word, Path) else str(word) for word in argv)
        return Step(tier.name, name, words, tuple(inputs), outputs, where, resumes=name == "download", **more)

    argv: tuple[object, ...]
    hub = (tier.checkpoint.repository, "--revision", tier.checkpoint.revision)
    yield step("download", "image", ("hf", "download", *hub, "--local-dir", source), (), source, bytes=stored)
    yield step("check", "here", (*_own(build, "check"), "--tier", tier.name, "--runtime", build.runtime), [source])
    if build.runtime == "llm_api":
        return

    model = source
    if architecture.model_class == "GPTJForCausalLM":
        model = build.places.engines / build.family / "converted" / f"{tier.name}-{settings.dtype}"  # the same for all GPUs
        argv = (*_SCRIPTS, build.places.python, "-m", f"{_MODULES}.codegen_gptj", source, model, "--dtype", settings.dtype)
        scripts = [_CHECKPOINTS / name for name in ("codegen_gptj.py", "shards.py", "tensor_shapes.py")]
        yield step("convert", "image", argv, [source, *scripts], model, bytes=stored)

    checkpoint = engine.with_name("checkpoint")
    if settings.quantization == "none":
        starcoder = ("--gpt-variant", "starcoder") if architecture.model_class == "GPTForCausalLM" else ()
        argv = (
            *(*_SCRIPTS, *_OFFLINE, build.places.python, "-m", f"{_MODULES}.trtllm_checkpoint"),
            *("--model-class", architecture.model_class, "--model-dir", model, "--output-dir", checkpoint),
            *("--dtype", settings.dtype, "--tp-size", settings.tensor_parallel, *starcoder),
        )
        yield step("checkpoint", "gpu", argv, [model, _CHECKPOINTS / "trtllm_checkpoint.py"], checkpoint, bytes=weights)
    else:
        texts = build.places.engines / "calibration" / tier.style
        argv = (build.places.project_python, "-m", f"{_MODULES}.calibration", texts, "--style", tier.style)
        yield step("calibration", "here", argv, [_CHECKPOINTS / "calibration.py"], texts, bytes=_CALIBRATION_BYTES)
        awq = ("--awq_block_size", AWQ_GROUP) if settings.quantization == "int4_awq" else ()
        argv = (
            *("env", *_OFFLINE, build.places.python, build.places.quantize, "--model_dir", model, "--output_dir", checkpoint),
            *("--dtype", settings.dtype, "--qformat", _QFORMAT[settings.quantization], *awq, "--calib_dataset", texts),
            *("--calib_size", _CALIBRATION_SAMPLES[settings.quantization], "--calib_max_seq_length", _CALIBRATION_TOKENS),
            *("--tokenizer_max_seq_length", settings.context_tokens, "--tp_size", settings.tensor_parallel),
        )
        yield step("quantize", "gpu", argv, [model, texts], checkpoint, bytes=weights, gpu_bytes=stored)

    argv = (
        *("trtllm-build", "--checkpoint_dir", checkpoint, "--output_dir", engine),
        *("--gemm_plugin", "auto", "--gpt_attention_plugin", "auto", "--max_batch_size", settings.max_batch_size),
        *("--max_input_len", settings.max_input_tokens, "--max_seq_len", settings.context_tokens),
        *("--max_num_tokens", NUM_TOKENS, "--max_beam_width", 1, "--kv_cache_type", "paged"),
        *("--use_paged_context_fmha", "enable", "--remove_input_padding", "enable", "--workers", settings.tensor_parallel),
    )
    files = [engine / "config.json", *(engine / f"rank{rank}.engine" for rank in range(settings.tensor_parallel))]
    yield step("build", "gpu", argv, [checkpoint], *files, bytes=weights)

    image = ("--python", build.places.python, "--quantize", str(build.places.quantize))
    argv = (*_own(build, "manifest"), "--tier", tier.name, *image)
    yield step("manifest", "gpu", argv, [source, *files], engine / MANIFEST)


def relative(path: Path) -> str:
    """A path as it is in commands."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _own(build: EngineBuild, command: str) -> tuple[str, ...]:
    module = (build.places.project_python, "-m", "codecascade_build.engines", command)
    return (*module, "--family", build.family, "--gpu", build.gpu.name)


def _check_tier(tier: GpuTier, gpu: Gpu, runtime: Runtime) -> None:
    if runtime == "llm_api":
        check_llm_api(tier)
    settings, at = tier.settings, f"Tier {tier.name} on {gpu.name}"
    try:
        check_settings(tier.checkpoint.architecture, settings, gpu)
    except BuildError as error:
        raise BuildError(f"{at}: {error}") from error
    memory = tier_memory(tier.checkpoint.architecture, settings)
    needed, usable = memory.total(whole_blocks(settings.kv_cache_tokens)), usable_bytes(gpu.memory_bytes)
    if needed > usable:
        raise BuildError(
            f"{at} needs {gib(needed)} of each GPU (weights {gib(memory.weights)}, run time {gib(memory.runtime)}, "
            f"a KV cache of {settings.kv_cache_tokens} tokens {gib(needed - memory.total(0))}), "
            f"and {gpu.title} has {gib(usable)} to give."
        )


def _check_paths(argv: Sequence[str]) -> None:
    for flag, path in pairwise(argv):
        for name in _MISREAD.get(flag, ()):
            if name in path.lower():
                raise BuildError(
                    f"The path {path} contains {name!r}, so TensorRT-LLM would take what is there for something else; "
                    "move it: CODECASCADE_CACHE, or the checkout."
                )
