"""TensorRT-LLM engines of a family: `build` is all of it, `check`, `manifest` and `render` are steps of it.

`build` runs inside the TensorRT-LLM image, on the kind of GPU that the engines are for; with --dry-run it prints its commands
on any machine.
"""

from __future__ import annotations

import shlex
import signal
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer
from codecascade.tiers.trtllm.engine_manifest import NAME, BuiltFile, EngineManifest, Source, manifest_text

from codecascade_build.checkpoints.preflight import check_checkpoint
from codecascade_build.checkpoints.shards import need_libraries
from codecascade_build.engine.runner import Runner, check_disk, contents, exclusively
from codecascade_build.engine.steps import IMAGE, QUANTIZE, EngineBuild, Places, Step, engine_build, relative, steps, tier_steps
from codecascade_build.engine.toolchain import check_quantizer, count_gpus, toolchain
from codecascade_build.errors import BuildError
from codecascade_build.gpu_plan.memory import NUM_TOKENS
from codecascade_build.gpu_plan.plan import Fleet, GpuPlan, Wishes, plan_gpus
from codecascade_build.gpus import gpu as gpu_kind
from codecascade_build.paths import ROOT
from codecascade_build.progress import Progress
from codecascade_build.recipes import RUNTIMES, GpuTier, Recipe, Runtime, load_recipe
from codecascade_build.render.gpu import render_engines

app = typer.Typer(help=__doc__, add_completion=False, pretty_exceptions_enable=False)

Family = Annotated[str, typer.Option(help="The model family: a recipe in build/families.")]
GpuName = Annotated[str, typer.Option("--gpu", help="The kind of GPU: h100, a100, l40s or rtx3090.")]
Tiers = Annotated[list[str] | None, typer.Option("--tier", help="A tier to build; again for more. Default: all.")]
OneTier = Annotated[str, typer.Option(help="The tier.")]
RuntimeName = Annotated[str, typer.Option(help="tensorrt_llm, or llm_api, which needs no engine.")]
Gpus = Annotated[int | None, typer.Option(help="How many GPUs the server has. Default: as many as this machine.")]
Python = Annotated[str, typer.Option(help="The image's Python.")]
Quantize = Annotated[Path, typer.Option(help="ModelOpt's quantize.py in the image.")]


@app.command()
def build(
    family: Family,
    gpu: GpuName = "h100",
    tier: Tiers = None,
    runtime: RuntimeName = "tensorrt_llm",
    gpus: Gpus = None,
    python: Python = "python3",
    quantize: Quantize = QUANTIZE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands, in order.")] = False,
) -> None:
    """Build everything, from the download to the rendered Triton models."""
    places = Places(python=python, quantize=quantize)
    recipe = load_recipe(family)
    chosen = engine_build(recipe, gpu_kind(gpu), tier or (), _runtime(runtime), places)
    planned = steps(chosen)
    if dry_run:
        print(dry_run_text(chosen, planned))
        return
    need_libraries()  # the step `check` reads weights with this Python
    progress = Progress()
    tools = toolchain(chosen.gpu, places)
    check_quantizer(planned, places, tools)
    check_disk(planned)
    try:
        _place(recipe, chosen, gpus or count_gpus())
    except BuildError as error:
        progress.say(f"The engines will be built, and no Triton models rendered: {error}")
        planned = planned[:-1]
    with exclusively(places.engines):
        Runner(tools, progress).run(planned)
    progress.say(f"Ready: {relative(places.engines / family / gpu)}")


@app.command()
def check(family: Family, gpu: GpuName, tier: OneTier, runtime: RuntimeName = "tensorrt_llm") -> None:
    """Check a downloaded checkpoint against the recipe, before anything is made of it."""
    chosen = engine_build(load_recipe(family), gpu_kind(gpu), (tier,), _runtime(runtime))
    (only,) = chosen.tiers
    check_checkpoint(chosen.download(only), only.checkpoint.architecture, end_tokens_as_stop_words=only.checkpoint.end_tokens[1:])


@app.command()
def manifest(family: Family, gpu: GpuName, tier: OneTier, python: Python = "python3", quantize: Quantize = QUANTIZE) -> None:
    """Write the manifest beside a tier's engine: what it was built for and from."""
    places = Places(python=python, quantize=quantize)
    chosen = engine_build(load_recipe(family), gpu_kind(gpu), (tier,), places=places)
    versions = toolchain(chosen.gpu, places).versions
    (only,) = chosen.tiers
    made = engine_manifest(chosen, only, versions["tensorrt_llm"], versions["tensorrt"], datetime.now(timezone.utc))
    path = chosen.engine(only) / NAME
    unfinished = path.with_name(f"{NAME}.partial")
    unfinished.write_text(manifest_text(made), encoding="utf-8")
    unfinished.replace(path)


@app.command()
def render(family: Family, gpu: GpuName, tier: Tiers = None, runtime: RuntimeName = "tensorrt_llm", gpus: Gpus = None) -> None:
    """Write the Triton models of the tiers, placed on the GPUs of this machine, and the deployment file."""
    recipe = load_recipe(family)
    chosen = engine_build(recipe, gpu_kind(gpu), tier or (), _runtime(runtime))
    copies = {copy.tier: copy for copy in _place(recipe, chosen, gpus or count_gpus()).servers[0].copies}
    engines = {tier.name: chosen.rendered(tier, copies[tier.name]) for tier in chosen.tiers}
    rendered = render_engines(recipe, gpu, engines, runtime=chosen.runtime)
    print(f"{relative(rendered.repository)} {relative(rendered.deployment)}")


def dry_run_text(build: EngineBuild, planned: tuple[Step, ...]) -> str:
    """A shell script: each command, and before it what it reads and writes."""
    first = f"# {build.family} on {build.gpu.name}: {build.gpu.title}, SM {build.gpu.sm}; inside {IMAGE}, in this folder"
    lines = [first, f"cd {shlex.quote(str(ROOT))}"]
    for number, step in enumerate(planned, start=1):
        reads = ", ".join(relative(path) for path in step.inputs) or "nothing here"
        writes = ", ".join(relative(path) for path in step.outputs) or "nothing"
        if step.name == "render":
            writes = f"var/model_repository/{build.family}-{build.runtime}"
        lines += ["", f"# {number} of {len(planned)}: {step}", f"# reads {reads}; writes {writes}", shlex.join(step.argv)]
    return "\n".join(lines)


def engine_manifest(build: EngineBuild, tier: GpuTier, tensorrt_llm: str, tensorrt: str, built: datetime) -> EngineManifest:
    """Describes an engine that was just built. Hashes its files and its source's. Raises BuildError."""
    checkpoint, settings = tier.checkpoint, tier.settings
    made = tuple(tier_steps(build, tier))
    engine = next(step for step in made if step.name == "build")
    return EngineManifest(
        tier=tier.name,
        family=build.family,
        gpu=build.gpu.name,
        sm=build.gpu.sm,
        tensorrt_llm=tensorrt_llm,
        tensorrt=tensorrt,
        tensor_parallel=settings.tensor_parallel,
        dtype=settings.dtype,
        quantization=settings.quantization,
        limits={
            "max_batch_size": settings.max_batch_size,
            "max_input_tokens": settings.max_input_tokens,
            "context_tokens": settings.context_tokens,
            "max_num_tokens": NUM_TOKENS,
        },
        source=Source(
            checkpoint.repository,
            checkpoint.revision,
            downloaded_commit(build.download(tier)),
            _built_files(build.download(tier)),
        ),
        files={name: file for path in engine.outputs for name, file in _built_files(path).items()},
        commands=tuple(step.argv for step in made if step.name not in ("check", "manifest")),
        built=built.strftime("%Y-%m-%dT%H:%M:%SZ"),
        rebuild=build.rebuild(tier),
    )


def downloaded_commit(folder: Path) -> str | None:
    """The commit that the hub's client noted beside its download; None if it noted none, or several."""
    notes = (folder / ".cache" / "huggingface" / "download").rglob("*.metadata")
    commits = {line for note in notes for line in note.read_text(encoding="utf-8").splitlines()[:1]}
    return commits.pop() if len(commits) == 1 else None


def _built_files(path: Path) -> dict[str, BuiltFile]:
    return {name: BuiltFile(file.bytes, file.sha256) for name, file in contents(path).items()}


def _place(recipe: Recipe, build: EngineBuild, count: int) -> GpuPlan:
    """Raises BuildError if the tiers do not fit so many GPUs, or not in one server."""
    tiers = tuple(tier.name for tier in build.tiers)
    plan = plan_gpus(recipe, Fleet(build.gpu, count), Wishes(tiers=tiers), build.runtime)
    if {copy.tier for copy in plan.servers[0].copies} != set(tiers):
        raise BuildError(
            f"on {count} × {build.gpu.title} these tiers take more than one server (a tensor-parallel tier has one of its own); "
            f"`make plan-gpus` places and renders them."
        )
    return plan


def _runtime(name: str) -> Runtime:
    if name in RUNTIMES:
        return name
    raise BuildError(f"The runtime {name!r} is not one of {', '.join(RUNTIMES)}.")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # unwinds, which ends the step's command
    try:
        app()
    except BuildError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
