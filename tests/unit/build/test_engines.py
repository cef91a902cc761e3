"""From a recipe to the commands of an engine build, and what is refused before anything is downloaded."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from codecascade.texts.prompts import STYLES
from codecascade.tiers.trtllm.engine_manifest import Machine, check_engine, manifest_text
from codecascade_build.checkpoints.calibration import texts
from codecascade_build.engine.steps import EngineBuild, Places, Step, engine_build, relative, steps, tier_steps
from codecascade_build.engines import downloaded_commit, dry_run_text, engine_manifest, render
from codecascade_build.errors import BuildError
from codecascade_build.gpu_plan.memory import BLOCK_TOKENS, tier_memory, usable_bytes
from codecascade_build.gpu_plan.placement import Copy
from codecascade_build.gpus import GPUS, gpu
from codecascade_build.paths import ROOT
from codecascade_build.recipes import OnGpu, Quantization, Recipe, Runtime, families, load_recipe
from codecascade_build.render.gpu import EngineTier


@pytest.fixture
def codegen() -> Recipe:
    return load_recipe("codegen-mono")


def build_of(recipe: Recipe, kind: str, tier: str, places: Places | None = None) -> EngineBuild:
    return engine_build(recipe, gpu(kind), (tier,), places=places)


def steps_of(family: str, kind: str, tier: str, **settings: object) -> dict[str, Step]:
    """The steps of one tier by name."""
    build = build_of(changed(load_recipe(family), tier, kind, **settings) if settings else load_recipe(family), kind, tier)
    return {step.name: step for step in tier_steps(build, build.tiers[0])}


def value(step: Step, flag: str) -> str:
    return step.argv[step.argv.index(flag) + 1]


def changed(recipe: Recipe, tier: str, kind: str, **settings: object) -> Recipe:
    """The recipe with other settings of a tier on a kind of GPU."""
    (old,) = recipe.choose([tier])
    assert old.gpu
    new = replace(old, gpu=replace(old.gpu, on=dict(old.gpu.on) | {kind: OnGpu()}, **settings))  # type: ignore[arg-type]
    return replace(recipe, tiers=tuple(new if other is old else other for other in recipe.tiers))


def test_codegen_is_converted_and_llama_is_not() -> None:
    made = steps_of("codegen-mono", "a100", "codegen-2b-mono")
    assert list(made) == ["download", "check", "convert", "checkpoint", "build", "manifest"]
    assert value(made["checkpoint"], "--model-dir") == relative(made["convert"].outputs[0])
    made = steps_of("wizardcoder-python", "a100", "wizardcoder-python-7b")
    assert list(made) == ["download", "check", "checkpoint", "build", "manifest"]


def test_a_quantized_tier_is_calibrated_with_texts_of_its_own_style() -> None:
    made = steps_of("qwen2.5-coder", "l40s", "qwen2.5-coder-7b")
    assert list(made) == ["download", "check", "calibration", "quantize", "build", "manifest"]
    assert value(made["calibration"], "--style") == "chatml"
    whole = [step.name for step in steps(engine_build(load_recipe("qwen2.5-coder"), gpu("h100")))]
    assert (whole.count("calibration"), whole.count("quantize"), whole[-1]) == (1, 3, "render"), "tiers of one style share texts"
    assert value(made["quantize"], "--calib_dataset") == relative(made["calibration"].outputs[0])
    assert made["quantize"].argv[:3] == ("env", "HF_HUB_OFFLINE=1", "HF_DATASETS_OFFLINE=1")


@pytest.mark.parametrize(("quantization", "qformat"), [("fp8", "fp8"), ("int4_awq", "int4_awq"), ("int8", "int8_wo")])
def test_quantizations_have_nvidia_s_names_and_awq_its_groups(quantization: Quantization, qformat: str) -> None:
    quantize = steps_of("qwen2.5-coder", "h100", "qwen2.5-coder-7b", quantization=quantization)["quantize"]
    assert value(quantize, "--qformat") == qformat
    assert ("--awq_block_size" in quantize.argv) == (quantization == "int4_awq")


def test_starcoder_is_loaded_first_and_named() -> None:
    assert steps_of("wizardcoder", "a100", "wizardcoder-1b")["checkpoint"].argv[-2:] == ("--gpt-variant", "starcoder")


def test_an_engine_is_built_for_the_limits_and_the_group_of_the_recipe(codegen: Recipe) -> None:
    build = steps_of("codegen-mono", "rtx3090", "codegen-16b-mono")["build"]
    settings = codegen.tiers[3].on_gpu("rtx3090").settings
    limits = (settings.max_batch_size, settings.max_input_tokens, settings.context_tokens, settings.tensor_parallel)
    flags = ("--max_batch_size", "--max_input_len", "--max_seq_len", "--workers")
    assert [value(build, flag) for flag in flags] == list(map(str, limits))
    assert [path.name for path in build.outputs] == ["config.json", "rank0.engine", "rank1.engine"]


@pytest.mark.parametrize("kind", GPUS)
@pytest.mark.parametrize("family", families())
def test_every_step_reads_what_an_earlier_one_wrote_or_what_is_in_the_repository(family: str, kind: str) -> None:
    written: set[Path] = set()
    for step in steps(engine_build(load_recipe(family), gpu(kind))):
        for path in step.inputs:
            assert path in written or path.is_file(), f"{step} reads {path}"
        written.update(step.outputs)


def test_the_dry_run_is_a_script_that_a_shell_reads(codegen: Recipe) -> None:
    build = engine_build(codegen, gpu("h100"))
    text = dry_run_text(build, steps(build))
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    commands = [tuple(shlex.split(line)) for line in text.splitlines() if line and not line.startswith("#")]
    assert commands == [("cd", str(ROOT)), *(step.argv for step in steps(build))]


def test_the_llm_api_needs_no_engine_and_loads_weights_as_they_are() -> None:
    recipe = load_recipe("qwen2.5-coder")
    build = engine_build(recipe, gpu("h100"), ("qwen2.5-coder-7b",), "llm_api")
    assert [step.name for step in steps(build)] == ["download", "check", "render"]
    assert build.tiers[0].settings.quantization == "none"
    assert build.rendered(build.tiers[0], Copy("", (0,), 1)).engine == build.download(build.tiers[0])
    build = engine_build(recipe, gpu("h100"), ("qwen2.5-coder-7b",))
    placed = build.rendered(build.tiers[0], Copy("", (3,), 9000))
    assert placed == EngineTier(build.engine(build.tiers[0]), build.download(build.tiers[0]), (3,), 9000)


@pytest.mark.parametrize(
    ("family", "tier", "runtime", "sentence"),
    [
        ("wizardcoder", "x", "tensorrt_llm", "wizardcoder has no tier 'x'; it has wizardcoder-1b, wizardcoder-3b, "),
        ("codegen-mono", "codegen-2b-mono", "llm_api", "Tier codegen-2b-mono is a GPTJForCausalLM, which the LLM API does "),
        ("codegen-mono", "codegen-2b-mono", "llama_cpp", "Nothing is built for the runtime llama_cpp; engines are for "),
    ],
)
def test_what_is_not_there_is_refused_by_name(family: str, tier: str, runtime: Runtime, sentence: str) -> None:
    with pytest.raises(BuildError, match=f"^{sentence}"):
        engine_build(load_recipe(family), gpu("h100"), (tier,), runtime)


def test_what_cannot_be_quantized_or_cut_is_refused_before_a_download(codegen: Recipe) -> None:
    recipe = changed(codegen, "codegen-2b-mono", "a100", quantization="fp8")
    with pytest.raises(BuildError, match=r"^Tier codegen-2b-mono on a100: quantization fp8 needs SM 89; A100 80 GB has SM 80\.$"):
        build_of(recipe, "a100", "codegen-2b-mono")


def test_a_gpu_that_is_too_small_is_refused_with_what_it_would_take(codegen: Recipe) -> None:
    recipe = changed(codegen, "codegen-16b-mono", "rtx3090", tensor_parallel=1, quantization="none")
    memory = r"40\.3 GiB of each GPU \(weights 30\.5 GiB, run time 3\.4 GiB, a KV cache of 8192 tokens 6\.4 GiB\)"
    with pytest.raises(BuildError, match=f"^Tier codegen-16b-mono on rtx3090 needs {memory}, and .* has 22.8 GiB to give"):
        build_of(recipe, "rtx3090", "codegen-16b-mono")


def test_a_tier_fits_up_to_the_last_byte_of_its_cache(codegen: Recipe) -> None:
    tier = codegen.tiers[1]
    assert tier.gpu
    assert tier.checkpoint
    memory = tier_memory(tier.checkpoint.architecture, tier.gpu)
    most = (usable_bytes(gpu("rtx3090").memory_bytes) - memory.total(0)) // memory.kv_token // BLOCK_TOKENS * BLOCK_TOKENS
    build_of(changed(codegen, tier.name, "rtx3090", kv_cache_tokens=most), "rtx3090", tier.name)
    with pytest.raises(BuildError, match=rf"a KV cache of {most + 1} tokens .* and GeForce RTX 3090 24 GB has .* to give"):
        build_of(changed(codegen, tier.name, "rtx3090", kv_cache_tokens=most + 1), "rtx3090", tier.name)


def test_a_path_that_tensorrt_llm_would_misread_is_refused(codegen: Recipe, tmp_path: Path) -> None:
    downloads = tmp_path / "prompts"
    with pytest.raises(BuildError, match=r"prompts/.* contains 'mpt', so TensorRT-LLM would take what is there for"):
        build_of(load_recipe("wizardcoder"), "h100", "wizardcoder-1b", Places(downloads=downloads))
    build_of(codegen, "h100", "codegen-2b-mono", Places(downloads=downloads))  # converted from there to elsewhere


def make_engine(build: EngineBuild) -> Path:
    """Files where the steps would leave them."""
    (tier,) = build.tiers
    source = build.download(tier)
    notes = source / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / "config.json.metadata").write_text("0123abc\netag\n1.5\n")
    (source / "config.json").write_text("{}")
    build.engine(tier).mkdir(parents=True)
    for step in tier_steps(build, tier):
        for path in step.outputs if step.name == "build" else ():
            path.write_bytes(path.name.encode())
    return build.engine(tier)


def test_the_manifest_says_what_was_built_and_a_server_of_that_kind_takes_it(codegen: Recipe, tmp_path: Path) -> None:
    places = Places(engines=tmp_path / "engines", downloads=tmp_path / "checkpoints")
    build = build_of(codegen, "rtx3090", "codegen-16b-mono", places)
    folder = make_engine(build)
    made = engine_manifest(build, build.tiers[0], "1.2.1", "10.14.1.48", datetime(2026, 7, 20, 12, tzinfo=timezone.utc))
    (folder / "codecascade.json").write_text(manifest_text(made))
    assert check_engine(folder, Machine("1.2.1", "10.14.1.48", (86, 86))).built == "2026-07-20T12:00:00Z"
    assert made.source.commit == "0123abc"
    assert list(made.source.files) == ["config.json"]
    assert made.rebuild == "make engines FAMILY=codegen-mono TIER=codegen-16b-mono GPU=rtx3090"
    assert [argv[0] for argv in made.commands] == ["hf", "env", "env", "trtllm-build"]


@pytest.mark.parametrize(
    ("runtime", "sentence"),
    [("tensorrt_llm", r"on 8 × .* these tiers take more than one server"), ("vllm", r"The runtime 'vllm' is not one of")],
)
def test_what_one_server_cannot_run_is_not_rendered(runtime: str, sentence: str) -> None:
    with pytest.raises(BuildError, match=f"^{sentence}"):
        render("wizardcoder-python", "rtx3090", runtime=runtime, gpus=8)


def test_a_download_of_two_commits_has_no_commit(tmp_path: Path) -> None:
    assert downloaded_commit(tmp_path) is None
    notes = tmp_path / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / "a.metadata").write_text("one\n")
    assert downloaded_commit(tmp_path) == "one"
    (notes / "b.metadata").write_text("two\n")
    assert downloaded_commit(tmp_path) is None


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_calibration_texts_are_many_different_and_the_same_each_time(style: str) -> None:
    made = texts(style, 64)
    assert len(set(made)) == 64
    assert made == texts(style, 64)
    assert all(("def " in text and '"""' in text) or "'" in text for text in made)


def test_too_few_functions_to_calibrate_with_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("x = 1\n")
    with pytest.raises(BuildError, match=r"has 0 functions to calibrate with, 8 are needed\.$"):
        texts("base", 8, tmp_path)
