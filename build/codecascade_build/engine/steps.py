"""From a recipe to TensorRT-LLM engines, as data: which commands, in which order, reading and writing what.

Nothing is run or looked up here, so the same steps are printed, checked against the contract of the pinned TensorRT-LLM, and run
(engine_run.py). Paths in commands are relative to the repository's root, where they run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from codecascade_build.engine.contract import check_argv, load_contract
from codecascade_build.errors import BuildError
from codecascade_build.gpu_plan.memory import NUM_TOKENS, TierMemory, tier_memory, usable_bytes, whole_blocks
from codecascade_build.gpus import GPUS, Gpu
from codecascade_build.paths import ROOT, VAR, cache_dir
from codecascade_build.quantization import check_parallelism, check_sequence_length
from codecascade_build.recipes import Checkpoint, DType, GpuRuntime, ModelClass, Quantization, Recipe, Runtime, Tier
from codecascade_build.render.gpu import check_llm_api

IMAGE = "nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3"
MANIFEST = "codecascade.json"
ENGINES = VAR / "engines"
QUANTIZE = Path("/app/examples/quantization/quantize.py")

# TensorRT-LLM's matrix of models and precisions; with NVIDIA's own names: FP8, W4A16 AWQ, W8A16.
_QUANTIZATIONS: dict[ModelClass, tuple[Quantization, ...]] = {
    "GPTJForCausalLM": ("none", "fp8", "int4_awq", "int8"),
    "GPTForCausalLM": ("none", "int8"),
    "LLaMAForCausalLM": ("none", "fp8", "int4_awq", "int8"),
    "QWenForCausalLM": ("none", "fp8", "int4_awq", "int8"),
}
_QFORMAT: dict[Quantization, str] = {"fp8": "fp8", "int4_awq": "int4_awq", "int8": "int8_wo"}
_CALIBRATION_SAMPLES = {"fp8": 512, "int4_awq": 32, "int8": 32}
_AWQ_GROUP = 128
_CALIBRATION_TOKENS = 1024
# TensorRT-LLM takes a model for another one where the path of its folder has such a name in it, be it inside a word.
_MISLEADING = ("mpt", "vila", "llava", "exaone")
_MISLEADING_DATA = ("cnn_dailymail", "scienceqa", "science_qa")
_CHECKPOINTS = ROOT / "build" / "codecascade_build" / "checkpoints"
_SCRIPTS = ("env", "PYTHONPATH=build")  # for the image's own Python, which has no codecascade_build
_OFFLINE = ("env", "HF_HUB_OFFLINE=1", "HF_DATASETS_OFFLINE=1")

Where = Literal["here", "image", "gpu"]


@dataclass(frozen=True, slots=True)
class Step:
    """One command for one tier. inputs, outputs: files and folders that it reads and writes.

    where: what it is done again for: nothing but its command and inputs (here), other packages of the image (image), or these and
    another kind of GPU (gpu).
    bytes: about what the outputs take. gpu_bytes: weights that it loads onto all GPUs of the machine together.
    resumes: a second run goes on with what the first one left.
    """

    tier: str
    name: str
    argv: tuple[str, ...]
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    where: Where
    bytes: int = 0
    gpu_bytes: int = 0
    resumes: bool = False

    def __str__(self) -> str:
        return f"{self.name} of {self.tier}"


@dataclass(frozen=True, slots=True)
class Places:
    """engines: where what is built goes. downloads: where checkpoints of the hub are kept.

    python, project_python: the image's Python and this project's. quantize: ModelOpt's script, which the image has.
    """

    engines: Path = ENGINES
    downloads: Path = field(default_factory=lambda: cache_dir() / "checkpoints")
    python: str = "python3"
    project_python: str = "var/venv/bin/python"
    quantize: Path = QUANTIZE

    def download(self, checkpoint: Checkpoint) -> Path:
        return self.downloads / checkpoint.repository.replace("/", "--")

    def converted(self, recipe: Recipe, tier: Tier, dtype: DType) -> Path:
        """Of a checkpoint that is of another class before. The same for all GPUs."""
        return self.engines / recipe.family / "converted" / f"{tier.name}-{dtype}"

    def calibration(self, tier: Tier) -> Path:
        return self.engines / "calibration" / tier.style

    def checkpoint(self, recipe: Recipe, tier: Tier, gpu: Gpu) -> Path:
        return self.engines / recipe.family / gpu.name / tier.name / "checkpoint"

    def engine(self, recipe: Recipe, tier: Tier, gpu: Gpu) -> Path:
        return self.engines / recipe.family / gpu.name / tier.name / "engine"


@dataclass(frozen=True, slots=True)
class EngineBuild:
    """What to build. Made by `engine_build`, which has checked it."""

    recipe: Recipe
    gpu: Gpu
    tiers: tuple[Tier, ...]
    runtime: Runtime
    places: Places

    def settings(self, tier: Tier) -> GpuRuntime:
        return gpu_settings(self.recipe, tier, self.gpu, self.runtime)


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
    names = [tier.name for tier in recipe.tiers]
    for name in tiers:
        if name not in names:
            raise BuildError(f"{recipe.family} has no tier {name!r}; it has {', '.join(names)}.")
    chosen = tuple(tier for tier in recipe.tiers if tier.name in tiers or not tiers)
    build = EngineBuild(recipe, gpu, chosen, runtime, places or Places())
    for tier in chosen:
        check_tier(recipe, tier, gpu, runtime)
    for step in steps(build):
        check_argv(load_contract(), step.argv)
        _check_paths(step)
    return build


def check_tier(recipe: Recipe, tier: Tier, gpu: Gpu, runtime: Runtime = "tensorrt_llm") -> None:
    """Raises BuildError if the tier cannot be built for this kind of GPU."""
    settings, architecture = gpu_settings(recipe, tier, gpu, runtime), _checkpoint(recipe, tier).architecture
    at = f"Tier {tier.name} on {gpu.name}"
    if runtime == "llm_api":
        check_llm_api(tier)
    allowed = _QUANTIZATIONS[architecture.model_class]
    if settings.quantization not in allowed:
        raise BuildError(
            f"{at} has quantization {settings.quantization}, which TensorRT-LLM has not for {architecture.model_class}; "
            f"it has {', '.join(allowed)}."
        )
    if settings.quantization == "fp8" and not gpu.fp8:
        able = ", ".join(kind.name for kind in GPUS.values() if kind.fp8)
        raise BuildError(f"{at} has quantization fp8, which needs SM 89; {gpu.title} has SM {gpu.sm}, {able} have it.")
    try:
        check_parallelism(architecture, settings.tensor_parallel, settings.quantization)
        check_sequence_length(architecture, settings.context_tokens)
    except BuildError as error:
        raise BuildError(f"{at}: {error}") from error
    _check_memory(at, tier_memory(architecture, settings), settings, gpu)


def steps(build: EngineBuild) -> tuple[Step, ...]:
    """All steps, in an order in which they can run."""
    each = [step for tier in build.tiers for step in _tier_steps(build, tier)]
    unique: dict[tuple[str, ...], Step] = {}
    for step in each:
        unique.setdefault(step.argv, step)  # tiers of one style share their calibration texts
    return (*unique.values(), _render(build, tuple(each)))


def tier_steps(build: EngineBuild, tier: Tier) -> tuple[Step, ...]:
    """The steps that lead to one tier's engine, its manifest last."""
    return tuple(_tier_steps(build, tier))


def gpu_settings(recipe: Recipe, tier: Tier, gpu: Gpu, runtime: Runtime = "tensorrt_llm") -> GpuRuntime:
    """A tier's settings on one kind of GPU. The LLM API loads the weights as they are. Raises BuildError if it has none."""
    if tier.gpu is None:
        raise BuildError(f"Tier {tier.name} of {recipe.family} has no settings for a GPU.")
    settings = tier.gpu.on_gpu(gpu.name)
    return replace(settings, quantization="none") if runtime == "llm_api" else settings


def rebuild_command(build: EngineBuild, tier: Tier) -> str:
    """What a person types to build one engine again."""
    return f"make engines FAMILY={build.recipe.family} TIER={tier.name} GPU={build.gpu.name}"


def relative(path: Path) -> str:
    """A path as it is in commands."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _tier_steps(build: EngineBuild, tier: Tier) -> list[Step]:
    download, check = _download(build, tier), _check(build, tier)
    if build.runtime == "llm_api":
        return [download, check]
    model = download.outputs[0]
    made = [download, check]
    settings = build.settings(tier)
    if _checkpoint(build.recipe, tier).architecture.model_class == "GPTJForCausalLM":
        convert = _convert(build, tier, settings, model)
        made.append(convert)
        model = convert.outputs[0]
    if settings.quantization == "none":
        checkpoint = _write_checkpoint(build, tier, settings, model)
    else:
        texts = _calibrate(build, tier)
        checkpoint = _quantize(build, tier, settings, model, texts.outputs[0])
        made.append(texts)
    engine = _build_engine(build, tier, settings, checkpoint.outputs[0])
    return [*made, checkpoint, engine, _write_manifest(build, tier, download, engine)]


def _download(build: EngineBuild, tier: Tier) -> Step:
    checkpoint = _checkpoint(build.recipe, tier)
    folder = build.places.download(checkpoint)
    argv = ("hf", "download", checkpoint.repository, "--revision", checkpoint.revision, "--local-dir", relative(folder))
    size = checkpoint.architecture.parameters * 2
    return Step(tier.name, "download", argv, (), (folder,), "image", bytes=size, resumes=True)


def _check(build: EngineBuild, tier: Tier) -> Step:
    folder = build.places.download(_checkpoint(build.recipe, tier))
    argv = (*_own(build, "check"), "--tier", tier.name, "--runtime", build.runtime)
    return Step(tier.name, "check", argv, (folder,), (), "here")


def _convert(build: EngineBuild, tier: Tier, settings: GpuRuntime, model: Path) -> Step:
    target = build.places.converted(build.recipe, tier, settings.dtype)
    module = "codecascade_build.checkpoints.codegen_gptj"
    argv = (*_SCRIPTS, build.places.python, "-m", module, relative(model), relative(target), "--dtype", settings.dtype)
    scripts = [_CHECKPOINTS / name for name in ("codegen_gptj.py", "shards.py", "tensor_shapes.py")]
    size = _checkpoint(build.recipe, tier).architecture.parameters * 2
    return Step(tier.name, "convert", argv, (model, *scripts), (target,), "image", size)


def _calibrate(build: EngineBuild, tier: Tier) -> Step:
    folder = build.places.calibration(tier)
    module = "codecascade_build.checkpoints.calibration"
    argv = (build.places.project_python, "-m", module, relative(folder), "--style", tier.style)
    return Step(tier.name, "calibration", argv, (_CHECKPOINTS / "calibration.py",), (folder,), "here", 1_000_000)


def _write_checkpoint(build: EngineBuild, tier: Tier, settings: GpuRuntime, model: Path) -> Step:
    folder = build.places.checkpoint(build.recipe, tier, build.gpu)
    architecture = _checkpoint(build.recipe, tier).architecture
    argv = (
        *_SCRIPTS,
        *_OFFLINE[1:],
        build.places.python,
        *("-m", "codecascade_build.checkpoints.trtllm_checkpoint"),
        *("--model-class", architecture.model_class),
        *("--model-dir", relative(model)),
        *("--output-dir", relative(folder)),
        *("--dtype", settings.dtype),
        *("--tp-size", str(settings.tensor_parallel)),
        *(("--gpt-variant", "starcoder") if architecture.model_class == "GPTForCausalLM" else ()),
    )
    return Step(
        tier.name, "checkpoint", argv, (model, _CHECKPOINTS / "trtllm_checkpoint.py"), (folder,), "gpu", _weights(build, tier)
    )


def _quantize(build: EngineBuild, tier: Tier, settings: GpuRuntime, model: Path, texts: Path) -> Step:
    folder = build.places.checkpoint(build.recipe, tier, build.gpu)
    argv = (
        *_OFFLINE,
        build.places.python,
        relative(build.places.quantize),
        *("--model_dir", relative(model)),
        *("--output_dir", relative(folder)),
        *("--dtype", settings.dtype),
        *("--qformat", _QFORMAT[settings.quantization]),
        *(("--awq_block_size", str(_AWQ_GROUP)) if settings.quantization == "int4_awq" else ()),
        *("--calib_dataset", relative(texts)),
        *("--calib_size", str(_CALIBRATION_SAMPLES[settings.quantization])),
        *("--calib_max_seq_length", str(_CALIBRATION_TOKENS)),
        *("--tokenizer_max_seq_length", str(settings.context_tokens)),
        *("--tp_size", str(settings.tensor_parallel)),
    )
    loads = _checkpoint(build.recipe, tier).architecture.parameters * 2
    return Step(tier.name, "quantize", argv, (model, texts), (folder,), "gpu", _weights(build, tier), gpu_bytes=loads)


def _build_engine(build: EngineBuild, tier: Tier, settings: GpuRuntime, checkpoint: Path) -> Step:
    folder = build.places.engine(build.recipe, tier, build.gpu)
    argv = (
        "trtllm-build",
        *("--checkpoint_dir", relative(checkpoint)),
        *("--output_dir", relative(folder)),
        *("--gemm_plugin", "auto"),
        *("--gpt_attention_plugin", "auto"),
        *("--max_batch_size", str(settings.max_batch_size)),
        *("--max_input_len", str(settings.max_input_tokens)),
        *("--max_seq_len", str(settings.context_tokens)),
        *("--max_num_tokens", str(NUM_TOKENS)),
        *("--max_beam_width", "1"),
        *("--kv_cache_type", "paged"),
        *("--use_paged_context_fmha", "enable"),
        *("--remove_input_padding", "enable"),
        *("--workers", str(settings.tensor_parallel)),
    )
    files = (folder / "config.json", *(folder / f"rank{rank}.engine" for rank in range(settings.tensor_parallel)))
    return Step(tier.name, "build", argv, (checkpoint,), files, "gpu", _weights(build, tier))


def _write_manifest(build: EngineBuild, tier: Tier, download: Step, engine: Step) -> Step:
    folder = build.places.engine(build.recipe, tier, build.gpu)
    places = ("--python", build.places.python, "--quantize", str(build.places.quantize))
    argv = (*_own(build, "manifest"), "--tier", tier.name, *places)
    return Step(tier.name, "manifest", argv, (*download.outputs, *engine.outputs), (folder / MANIFEST,), "gpu")


def _render(build: EngineBuild, before: Sequence[Step]) -> Step:
    argv = (*_own(build, "render"), *(word for tier in build.tiers for word in ("--tier", tier.name)), "--runtime", build.runtime)
    inputs = tuple(path for step in before if step.name in ("manifest", "check") for path in (step.outputs or step.inputs))
    return Step(build.recipe.family, "render", argv, inputs, (), "here")


def _own(build: EngineBuild, command: str) -> tuple[str, ...]:
    return (
        build.places.project_python,
        "-m",
        "codecascade_build.engines",
        command,
        "--family",
        build.recipe.family,
        "--gpu",
        build.gpu.name,
    )


def _weights(build: EngineBuild, tier: Tier) -> int:
    settings = build.settings(tier)
    return tier_memory(_checkpoint(build.recipe, tier).architecture, settings).weights * settings.tensor_parallel


def _checkpoint(recipe: Recipe, tier: Tier) -> Checkpoint:
    if tier.checkpoint is None:
        raise BuildError(f"Tier {tier.name} of {recipe.family} has no checkpoint.")
    return tier.checkpoint


def _check_memory(at: str, memory: TierMemory, settings: GpuRuntime, gpu: Gpu) -> None:
    needed, usable = memory.total(whole_blocks(settings.kv_cache_tokens)), usable_bytes(gpu.memory_bytes)
    if needed > usable:
        raise BuildError(
            f"{at} needs {_gib(needed)} of each GPU (weights {_gib(memory.weights)}, run time {_gib(memory.runtime)}, "
            f"a KV cache of {settings.kv_cache_tokens} tokens {_gib(needed - memory.total(0))}), and {gpu.title} has "
            f"{_gib(usable)} to give; more tensor_parallel, a quantization or a smaller kv_cache_tokens in "
            f"[tiers.gpu.on.{gpu.name}] would help."
        )


def _check_paths(step: Step) -> None:
    for flag, names in (("--model_dir", _MISLEADING), ("--model-dir", _MISLEADING), ("--calib_dataset", _MISLEADING_DATA)):
        if flag in step.argv:
            path = step.argv[step.argv.index(flag) + 1]
            found = [name for name in names if name in path.lower()]
            if found:
                raise BuildError(
                    f"The path {path} has {found[0]!r} in it, for which TensorRT-LLM takes what is there for something else; "
                    "move it: CODECASCADE_CACHE, or the checkout."
                )


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
