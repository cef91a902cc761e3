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
from codecascade_build.engine.steps import EngineBuild, Places, Step, engine_build, gpu_settings, relative, steps, tier_steps
from codecascade_build.engines import downloaded_commit, dry_run_text, engine_manifest, engine_tiers
from codecascade_build.errors import BuildError
from codecascade_build.gpu_plan.memory import BLOCK_TOKENS, tier_memory, usable_bytes
from codecascade_build.gpu_plan.plan import Fleet, Wishes, plan_gpus
from codecascade_build.gpus import GPUS, gpu
from codecascade_build.paths import ROOT
from codecascade_build.recipes import OnGpu, Quantization, Recipe, Tier, families, load_recipe


@pytest.fixture
def codegen() -> Recipe:
    return load_recipe("codegen-mono")


def build_of(recipe: Recipe, kind: str, tier: str, places: Places | None = None) -> EngineBuild:
    return engine_build(recipe, gpu(kind), (tier,), places=places)


def names(made: tuple[Step, ...]) -> list[str]:
    return [step.name for step in made]


def changed(recipe: Recipe, tier: str, kind: str, **settings: object) -> Recipe:
    """The recipe with other settings of a tier on a kind of GPU."""
    tiers = []
    for each in recipe.tiers:
        if each.name == tier and each.gpu:
            on = dict(each.gpu.on) | {kind: OnGpu()}
            each = replace(each, gpu=replace(each.gpu, on=on, **settings))  # type: ignore[arg-type]
        tiers.append(each)
    return replace(recipe, tiers=tuple(tiers))


def test_codegen_is_converted_and_llama_is_not(codegen: Recipe) -> None:
    made = tier_steps(build_of(codegen, "a100", "codegen-2b-mono"), codegen.tiers[1])
    assert names(made) == ["download", "check", "convert", "checkpoint", "build", "manifest"]
    convert, checkpoint = made[2], made[3]
    assert convert.outputs[0] in checkpoint.inputs
    assert checkpoint.argv[checkpoint.argv.index("--model-dir") + 1] == relative(convert.outputs[0])
    llama = load_recipe("wizardcoder-python")
    made = tier_steps(build_of(llama, "a100", "wizardcoder-python-7b"), llama.tiers[0])
    assert names(made) == ["download", "check", "checkpoint", "build", "manifest"]


def test_a_quantized_tier_is_calibrated_with_texts_of_its_own_style() -> None:
    recipe = load_recipe("qwen2.5-coder")
    tier = recipe.tiers[3]
    made = tier_steps(build_of(recipe, "l40s", tier.name), tier)
    assert names(made) == ["download", "check", "calibration", "quantize", "build", "manifest"]
    calibration, quantize = made[2], made[3]
    assert calibration.argv[-2:] == ("--style", "chatml")
    assert quantize.argv[quantize.argv.index("--calib_dataset") + 1] == relative(calibration.outputs[0])
    assert quantize.argv[quantize.argv.index("--qformat") + 1] == "fp8"
    assert quantize.argv[:3] == ("env", "HF_HUB_OFFLINE=1", "HF_DATASETS_OFFLINE=1")


@pytest.mark.parametrize(("quantization", "qformat"), [("int4_awq", "int4_awq"), ("int8", "int8_wo")])
def test_quantizations_have_nvidia_s_names_and_awq_its_groups(quantization: Quantization, qformat: str) -> None:
    recipe = changed(load_recipe("qwen2.5-coder"), "qwen2.5-coder-7b", "a100", quantization=quantization)
    (quantize,) = (step for step in steps(build_of(recipe, "a100", "qwen2.5-coder-7b")) if step.name == "quantize")
    assert quantize.argv[quantize.argv.index("--qformat") + 1] == qformat
    assert ("--awq_block_size" in quantize.argv) == (quantization == "int4_awq")


def test_starcoder_is_loaded_first_and_named() -> None:
    recipe = load_recipe("wizardcoder")
    (made,) = (step for step in steps(build_of(recipe, "a100", "wizardcoder-1b")) if step.name == "checkpoint")
    assert made.argv[-2:] == ("--gpt-variant", "starcoder")


def test_an_engine_is_built_for_the_limits_and_the_group_of_the_recipe(codegen: Recipe) -> None:
    (made,) = (step for step in steps(build_of(codegen, "rtx3090", "codegen-16b-mono")) if step.name == "build")
    settings = gpu_settings(codegen, codegen.tiers[3], gpu("rtx3090"))
    for flag, value in (
        ("--max_batch_size", settings.max_batch_size),
        ("--max_input_len", settings.max_input_tokens),
        ("--max_seq_len", settings.context_tokens),
        ("--workers", settings.tensor_parallel),
    ):
        assert made.argv[made.argv.index(flag) + 1] == str(value), flag
    assert [path.name for path in made.outputs] == ["config.json", "rank0.engine", "rank1.engine"]


@pytest.mark.parametrize("kind", GPUS)
@pytest.mark.parametrize("family", families())
def test_every_step_reads_what_an_earlier_one_wrote_or_what_is_in_the_repository(family: str, kind: str) -> None:
    written: set[Path] = set()
    for step in steps(engine_build(load_recipe(family), gpu(kind))):
        for path in step.inputs:
            assert path in written or path.is_file(), f"{step} reads {path}"
        written.update(step.outputs)


def test_tiers_of_one_style_share_their_calibration_texts() -> None:
    made = steps(engine_build(load_recipe("qwen2.5-coder"), gpu("h100")))
    assert names(made).count("calibration") == 1
    assert names(made).count("quantize") == 3
    assert made[-1].name == "render"


def test_the_dry_run_is_a_script_that_a_shell_reads(codegen: Recipe) -> None:
    build = engine_build(codegen, gpu("h100"))
    text = dry_run_text(build, steps(build))
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    commands = [tuple(shlex.split(line)) for line in text.splitlines() if line and not line.startswith("#")]
    assert commands == [("cd", str(ROOT)), *(step.argv for step in steps(build))]


def test_the_llm_api_needs_no_engine_and_loads_weights_as_they_are() -> None:
    recipe = load_recipe("qwen2.5-coder")
    build = engine_build(recipe, gpu("h100"), ("qwen2.5-coder-7b",), "llm_api")
    assert names(steps(build)) == ["download", "check", "render"]
    assert build.settings(recipe.tiers[3]).quantization == "none"


@pytest.mark.parametrize(
    ("family", "tier", "kind", "runtime", "sentence"),
    [
        (
            "codegen-mono",
            "codegen-7b",
            "h100",
            "tensorrt_llm",
            "codegen-mono has no tier 'codegen-7b'; it has codegen-350m-mono, codegen-2b-mono, "
            "codegen-6b-mono, codegen-16b-mono.",
        ),
        (
            "codegen-mono",
            "codegen-2b-mono",
            "h100",
            "llm_api",
            "Tier codegen-2b-mono is a GPTJForCausalLM, which the LLM API does not run; "
            "it runs LLaMAForCausalLM and QWenForCausalLM.",
        ),
        (
            "wizardcoder",
            "wizardcoder-1b",
            "a100",
            "llm_api",
            "Tier wizardcoder-1b is a GPTForCausalLM, which the LLM API does not run; "
            "it runs LLaMAForCausalLM and QWenForCausalLM.",
        ),
        (
            "codegen-mono",
            "codegen-2b-mono",
            "h100",
            "llama_cpp",
            "Nothing is built for the runtime llama_cpp; engines are for tensorrt_llm, and llm_api runs checkpoints.",
        ),
    ],
)
def test_what_is_not_there_is_refused_by_name(family: str, tier: str, kind: str, runtime: str, sentence: str) -> None:
    with pytest.raises(BuildError) as raised:
        engine_build(load_recipe(family), gpu(kind), (tier,), runtime)  # type: ignore[arg-type]
    assert str(raised.value) == sentence


@pytest.mark.parametrize(
    ("family", "tier", "kind", "settings", "sentence"),
    [
        (
            "codegen-mono",
            "codegen-2b-mono",
            "a100",
            {"quantization": "fp8"},
            "Tier codegen-2b-mono on a100 has quantization fp8, which needs SM 89; A100 80 GB has SM 80, h100, l40s have it.",
        ),
        (
            "wizardcoder",
            "wizardcoder-15b",
            "h100",
            {"quantization": "fp8"},
            "Tier wizardcoder-15b on h100 has quantization fp8, which TensorRT-LLM has not for GPTForCausalLM; "
            "it has none, int8.",
        ),
        (
            "wizardcoder",
            "wizardcoder-15b",
            "a100",
            {"quantization": "int4_awq"},
            "Tier wizardcoder-15b on a100 has quantization int4_awq, which TensorRT-LLM has not for GPTForCausalLM; "
            "it has none, int8.",
        ),
        (
            "codegen-mono",
            "codegen-350m-mono",
            "h100",
            {"tensor_parallel": 3},
            "Tier codegen-350m-mono on h100: tensor_parallel 3: 16 heads cannot be shared evenly; possible here: 1, 2, 4, 8.",
        ),
        (
            "wizardcoder-python",
            "wizardcoder-python-7b",
            "a100",
            {"quantization": "int4_awq", "tensor_parallel": 4},
            "Tier wizardcoder-python-7b on a100: tensor_parallel 4: int4_awq has groups of 128, of which intermediate "
            "11008 ÷ 4 = 2752 is no multiple; possible here: 1, 2.",
        ),
    ],
    ids=["fp8 before Ada", "fp8 of StarCoder", "AWQ of StarCoder", "heads", "AWQ groups"],
)
def test_what_cannot_be_built_is_refused_before_a_download(
    family: str, tier: str, kind: str, settings: dict[str, object], sentence: str
) -> None:
    recipe = changed(load_recipe(family), tier, kind, **settings)
    with pytest.raises(BuildError) as raised:
        engine_build(recipe, gpu(kind), (tier,))
    assert str(raised.value) == sentence


def test_a_gpu_that_is_too_small_is_refused_with_what_it_would_take(codegen: Recipe) -> None:
    recipe = changed(codegen, "codegen-16b-mono", "rtx3090", tensor_parallel=1, quantization="none")
    with pytest.raises(BuildError) as raised:
        engine_build(recipe, gpu("rtx3090"), ("codegen-16b-mono",))
    sentence = str(raised.value)
    assert sentence.startswith("Tier codegen-16b-mono on rtx3090 needs ")
    assert " of each GPU (weights 30.5 GiB, run time " in sentence
    assert "GiB to give; more tensor_parallel, a quantization or a smaller kv_cache_tokens" in sentence
    assert "[tiers.gpu.on.rtx3090] would help." in sentence
    assert sentence.count(".") - sentence.count("GiB") <= 4, "one sentence"


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
    with pytest.raises(BuildError, match=r"prompts/.*has 'mpt' in it, for which TensorRT-LLM takes what is there for something"):
        build_of(load_recipe("wizardcoder"), "h100", "wizardcoder-1b", Places(downloads=downloads))
    build_of(codegen, "h100", "codegen-2b-mono", Places(downloads=downloads))  # converted from there to elsewhere


def make_engine(build: EngineBuild, tier: Tier) -> Path:
    """Files where the steps would leave them."""
    assert tier.checkpoint
    source = build.places.download(tier.checkpoint)
    notes = source / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / "config.json.metadata").write_text("0123abc\netag\n1.5\n")
    (source / "config.json").write_text("{}")
    folder = build.places.engine(build.recipe, tier, build.gpu)
    folder.mkdir(parents=True)
    for step in tier_steps(build, tier):
        for path in step.outputs if step.name == "build" else ():
            path.write_bytes(path.name.encode())
    return folder


def test_the_manifest_says_what_was_built_and_a_server_of_that_kind_takes_it(codegen: Recipe, tmp_path: Path) -> None:
    places = Places(engines=tmp_path / "engines", downloads=tmp_path / "checkpoints")
    build, tier = build_of(codegen, "rtx3090", "codegen-16b-mono", places), codegen.tiers[3]
    folder = make_engine(build, tier)
    made = engine_manifest(build, tier, "1.2.1", "10.14.1.48", datetime(2026, 7, 20, 12, tzinfo=timezone.utc))
    (folder / "codecascade.json").write_text(manifest_text(made))
    assert check_engine(folder, Machine("1.2.1", "10.14.1.48", (86, 86))).built == "2026-07-20T12:00:00Z"
    assert made.source.commit == "0123abc"
    assert list(made.source.files) == ["config.json"]
    assert made.rebuild == "make engines FAMILY=codegen-mono TIER=codegen-16b-mono GPU=rtx3090"
    assert [argv[0] for argv in made.commands] == ["hf", "env", "env", "trtllm-build"]


def test_a_download_of_two_commits_has_no_commit(tmp_path: Path) -> None:
    assert downloaded_commit(tmp_path) is None
    notes = tmp_path / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / "a.metadata").write_text("one\n")
    assert downloaded_commit(tmp_path) == "one"
    (notes / "b.metadata").write_text("two\n")
    assert downloaded_commit(tmp_path) is None


def test_triton_gets_the_engines_with_the_gpus_and_the_caches_of_the_plan(codegen: Recipe) -> None:
    build = engine_build(codegen, gpu("h100"))
    plan = plan_gpus(codegen, Fleet(gpu("h100"), 1), Wishes())
    tiers = engine_tiers(build, plan)
    assert list(tiers) == [tier.name for tier in codegen.tiers]
    for tier in codegen.tiers:
        assert tiers[tier.name].engine == build.places.engine(codegen, tier, gpu("h100"))
        assert tiers[tier.name].gpu_device_ids == (0,)
        assert tiers[tier.name].kv_cache_tokens >= gpu_settings(codegen, tier, gpu("h100")).kv_cache_tokens


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
