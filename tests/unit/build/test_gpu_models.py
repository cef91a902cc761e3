"""Recipes are rendered into Triton models of engine tiers that parse, belong together and leave nothing to fill in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from codecascade.deployment import load_deployment
from codecascade.tiers.contract import INPUTS, OUTPUTS
from codecascade_build.errors import BuildError
from codecascade_build.gpu_plan.memory import KV_CACHE_FRACTION
from codecascade_build.paths import ROOT
from codecascade_build.recipes import Recipe, Runtime, families, load_recipe
from codecascade_build.render.gpu import EngineTier, render_engines
from codecascade_build.render.repository import Rendered
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

CONTRACT = json.loads((ROOT / "build" / "contracts" / "1.2.1.json").read_text())
GPUS = ("h100", "a100", "l40s", "rtx3090")
PARTS = ("", "-ensemble", "-preprocessing", "-tensorrt_llm", "-postprocessing")
ON_THE_LLM_API = ("qwen2.5-coder", "wizardcoder-python")


def engines(recipe: Recipe, gpu: str) -> dict[str, EngineTier]:
    """Every tier on GPUs of its own."""
    placed, first = {}, 0
    for tier in recipe.tiers:
        assert tier.gpu
        size = tier.gpu.on_gpu(gpu).tensor_parallel
        placed[tier.name] = EngineTier(
            engine=Path(f"/engines/{tier.name}"),
            tokenizer=Path(f"/tokenizers/{tier.name}"),
            gpu_device_ids=tuple(range(first, first + size)),
            kv_cache_tokens=tier.gpu.kv_cache_tokens,
        )
        first += size
    return placed


@pytest.fixture(params=families())
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return load_recipe(request.param)


@pytest.fixture
def rendered(recipe: Recipe, tmp_path: Path) -> Rendered:
    """On the kind of GPU that has tensor-parallel tiers."""
    return render_engines(recipe, "rtx3090", engines(recipe, "rtx3090"), tmp_path)


def config(rendered: Rendered, model: str) -> model_config_pb2.ModelConfig:
    text = (rendered.repository / model / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def parameters(parsed: model_config_pb2.ModelConfig) -> dict[str, str]:
    return {key: value.string_value for key, value in parsed.parameters.items()}


def tensors(declared: Iterable[model_config_pb2.ModelInput]) -> dict[str, tuple[str, list[int]]]:
    return {tensor.name: (model_config_pb2.DataType.Name(tensor.data_type), list(tensor.dims)) for tensor in declared}


@pytest.mark.parametrize("gpu", GPUS)
def test_every_family_has_five_models_per_tier_with_nothing_to_fill_in(recipe: Recipe, gpu: str, tmp_path: Path) -> None:
    rendered = render_engines(recipe, gpu, engines(recipe, gpu), tmp_path)
    models = {f"{tier.name}{part}" for tier in recipe.tiers for part in PARTS}
    assert {path.name for path in rendered.repository.iterdir()} == models
    for model in models:
        assert config(rendered, model).name == model
        assert (rendered.repository / model / "1").is_dir()
        assert "$" not in (rendered.repository / model / "config.pbtxt").read_text()


def test_the_models_of_a_tier_belong_together(recipe: Recipe, rendered: Rendered) -> None:
    """Triton refuses an ensemble with an output that nothing makes; one that nothing reads is a mistake of ours."""
    for tier in recipe.tiers:
        ensemble = config(rendered, f"{tier.name}-ensemble")
        known = tensors(ensemble.input)
        read = set(tensors(ensemble.output))
        for step in ensemble.ensemble_scheduling.step:
            model = config(rendered, step.model_name)
            assert model.max_batch_size >= ensemble.max_batch_size
            inputs, outputs = tensors(model.input), tensors(model.output)
            assert {name for name in inputs if name not in step.input_map} <= {
                tensor.name for tensor in model.input if tensor.optional
            }
            for name, tensor in step.input_map.items():
                assert inputs[name] == known[tensor], (step.model_name, name)
            known |= {tensor: outputs[name] for name, tensor in step.output_map.items()}
            read |= set(step.input_map.values())
        assert {name: known[name] for name in tensors(ensemble.output)} == tensors(ensemble.output)
        assert set(known) - set(tensors(ensemble.input)) <= read


def test_the_tier_model_meets_the_tier_contract(recipe: Recipe, rendered: Rendered) -> None:
    for tier in recipe.tiers:
        parsed, said = config(rendered, tier.name), parameters(config(rendered, tier.name))
        assert (parsed.backend, parsed.max_batch_size) == ("python", 0)
        assert [tensor.name for tensor in parsed.input] == [tensor.name for tensor in INPUTS]
        assert [tensor.name for tensor in parsed.output] == [tensor.name for tensor in OUTPUTS]
        assert (said["ensemble"], said["engine_model"]) == (f"{tier.name}-ensemble", f"{tier.name}-tensorrt_llm")
        assert said["engine"] == f"/engines/{tier.name}"  # whose manifest it checks
        assert said["gpu_device_ids"] == parameters(config(rendered, f"{tier.name}-tensorrt_llm"))["gpu_device_ids"]


def test_the_engine_s_model_is_told_what_the_recipe_and_the_placement_say(recipe: Recipe, rendered: Rendered) -> None:
    for tier in recipe.tiers:
        assert tier.gpu
        parsed = config(rendered, f"{tier.name}-tensorrt_llm")
        placed = engines(recipe, "rtx3090")[tier.name]
        assert (parsed.backend, parsed.max_batch_size) == ("tensorrtllm", tier.gpu.max_batch_size)
        assert list(parsed.dynamic_batching.preferred_batch_size) == [tier.gpu.max_batch_size]
        assert not parsed.model_transaction_policy.decoupled
        said = parameters(parsed)
        assert said["gpt_model_path"] == f"/engines/{tier.name}"
        assert said["gpt_model_type"] == "inflight_fused_batching"
        assert said["gpu_device_ids"] == ",".join(map(str, placed.gpu_device_ids))
        assert said["max_tokens_in_paged_kv_cache"] == str(placed.kv_cache_tokens)
        assert (said["enable_kv_cache_reuse"], said["exclude_input_in_output"]) == ("true", "true")
        assert said["cancellation_check_period_ms"] == "100"
        assert said["normalize_log_probs"] == "false", "else every greedy token has the log-probability 0"
        read_without_default = ("tokenizer_dir", "xgrammar_tokenizer_info_path", "guided_decoding_backend")
        assert {said[name] for name in read_without_default} == {""}
        for tensor in parsed.input:
            assert tensor.HasField("reshape") == (list(tensor.dims) == [1]), "scalars have the batch dimension alone"
            assert tensor.allow_ragged_batch == (tensor.name in ("input_ids", "stop_words_list"))


def test_tensors_and_parameters_of_the_engine_s_model_are_those_of_its_template(recipe: Recipe, rendered: Rendered) -> None:
    template = CONTRACT["models"]["tensorrt_llm"]
    for tier in recipe.tiers:
        parsed = config(rendered, f"{tier.name}-tensorrt_llm")
        needed = {name for name, tensor in template["inputs"].items() if not tensor.get("optional")}
        assert needed <= {tensor.name for tensor in parsed.input}
        for kind, ours in (("inputs", parsed.input), ("outputs", parsed.output)):
            for name, (data_type, dims) in tensors(ours).items():
                there = template[kind][name]
                assert dims == there["dims"], name
                assert data_type == there["type"].replace("${logits_datatype}", "TYPE_FP32"), name
        for tensor in parsed.input:
            assert tensor.optional == template["inputs"][tensor.name].get("optional", False), tensor.name
        for name, value in parameters(parsed).items():
            there = template["parameters"][name]
            assert there.startswith("${") or there == value, name


def test_the_ensemble_speaks_as_tensorrt_llm_s_own_does(recipe: Recipe, rendered: Rendered) -> None:
    """Whoever calls that one can call this one: the inputs have its names and types, the text comes out by the same name.

    It has one optional input more, which that one cannot have: it tokenizes a prompt as a whole.
    """
    template = CONTRACT["models"]["ensemble"]
    for tier in recipe.tiers:
        parsed = config(rendered, f"{tier.name}-ensemble")
        assert [tensor.optional for tensor in parsed.input if tensor.name == "literal_ranges"] == [True]
        for name, (data_type, dims) in tensors(parsed.input).items():
            if name != "literal_ranges":
                assert (data_type, dims) == (template["inputs"][name]["type"], template["inputs"][name]["dims"]), name
        assert tensors(parsed.output)["text_output"][0] == template["outputs"]["text_output"]["type"]


def test_limits_end_tokens_and_code_reach_the_models_that_need_them(recipe: Recipe, rendered: Rendered) -> None:
    for tier in recipe.tiers:
        assert tier.gpu
        assert tier.checkpoint
        first = parameters(config(rendered, f"{tier.name}-preprocessing"))
        assert first == {
            "tokenizer": f"/tokenizers/{tier.name}",
            "end_tokens": json.dumps(tier.checkpoint.end_tokens),
            "max_input_tokens": str(tier.gpu.max_input_tokens),
            "context_tokens": str(tier.gpu.context_tokens),
            "max_completion_tokens": str(tier.gpu.max_completion_tokens),
        }
        last = parameters(config(rendered, f"{tier.name}-postprocessing"))
        assert last == {key: first[key] for key in ("tokenizer", "end_tokens")}
        for part, module in (("", "tensorrt_llm"), ("-preprocessing", "preprocessing"), ("-postprocessing", "postprocessing")):
            source = (rendered.repository / f"{tier.name}{part}" / "1" / "model.py").read_text()
            assert source == f"from codecascade.triton.models.{module} import TritonPythonModel  # noqa: F401\n"


@pytest.mark.parametrize("runtime", ["tensorrt_llm", "llm_api"])
def test_the_cascade_reads_the_deployment(runtime: Runtime, tmp_path: Path) -> None:
    recipe = load_recipe("qwen2.5-coder")
    rendered = render_engines(recipe, "h100", engines(recipe, "h100"), tmp_path, runtime=runtime)
    assert rendered.deployment == tmp_path / f"qwen2.5-coder-{runtime}.json"
    read = load_deployment(rendered.deployment)
    assert list(read.tiers) == [tier.name for tier in recipe.tiers]
    for tier in recipe.tiers:
        assert tier.gpu
        deployed = read.tiers[tier.name]
        assert (deployed.style, deployed.context_tokens) == (tier.style, tier.gpu.context_tokens)
        assert deployed.max_completion_tokens == tier.gpu.max_completion_tokens
        assert deployed.max_in_flight == 2 * tier.gpu.max_batch_size
        assert deployed.price_per_mtok == tier.gpu.price_per_mtok
        assert deployed.prompt_price_per_mtok == tier.gpu.prompt_price_per_mtok


@pytest.mark.parametrize("family", ON_THE_LLM_API)
def test_a_tier_of_the_llm_api_is_one_model(family: str, tmp_path: Path) -> None:
    recipe = load_recipe(family)
    rendered = render_engines(recipe, "h100", engines(recipe, "h100"), tmp_path, runtime="llm_api")
    assert {path.name for path in rendered.repository.iterdir()} == {tier.name for tier in recipe.tiers}
    for tier in recipe.tiers:
        assert tier.gpu
        parsed = config(rendered, tier.name)
        assert {"text_input", "num_return_sequences"} <= set(tensors(parsed.input))
        said = parameters(parsed)
        assert (said["checkpoint"], said["dtype"]) == (f"/engines/{tier.name}", tier.gpu.dtype)
        assert (said["kv_cache_tokens"], said["kv_cache_share"]) == (str(tier.gpu.kv_cache_tokens), str(KV_CACHE_FRACTION))
        source = (rendered.repository / tier.name / "1" / "model.py").read_text()
        assert source == "from codecascade.triton.models.llm_api import TritonPythonModel  # noqa: F401\n"


@pytest.mark.parametrize("family", sorted(set(families()) - set(ON_THE_LLM_API)))
def test_a_model_that_the_llm_api_does_not_run_is_refused_by_name(family: str, tmp_path: Path) -> None:
    recipe = load_recipe(family)
    with pytest.raises(BuildError, match=r"is a GPT\w*ForCausalLM, .* it runs LLaMAForCausalLM and QWenForCausalLM\.$"):
        render_engines(recipe, "h100", engines(recipe, "h100"), tmp_path, runtime="llm_api")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "runtime", "sentence"),
    [
        ({"gpu_device_ids": (0, 1)}, "tensorrt_llm", "Tier qwen2.5-coder-14b has the GPUs 0, 1, its tensor_parallel is 1."),
        ({"gpu_device_ids": ()}, "tensorrt_llm", "Tier qwen2.5-coder-14b has the GPUs none, its tensor_parallel is 1."),
        ({"kv_cache_tokens": 4095}, "tensorrt_llm", "a KV cache of 4095 tokens, one sequence alone may have 4096."),
        ({}, "llama_cpp", "No engine is of the runtime llama_cpp; allowed are tensorrt_llm and llm_api."),
    ],
)
def test_engines_that_do_not_fit_the_recipe_are_refused(changes: dict[str, Any], runtime: Runtime, sentence: str) -> None:
    recipe, name = load_recipe("qwen2.5-coder"), "qwen2.5-coder-14b"
    placed = {name: replace(engines(recipe, "h100")[name], **changes)}
    with pytest.raises(BuildError, match=f"{sentence}$"):
        render_engines(recipe, "h100", placed, Path("/nowhere"), runtime=runtime)


def test_a_tier_that_the_family_lacks_is_refused(tmp_path: Path) -> None:
    recipe = load_recipe("wizardcoder")
    with pytest.raises(BuildError, match=r"wizardcoder has no tier 'wizardcoder-7b'; it has wizardcoder-1b, wizardcoder-3b, "):
        render_engines(recipe, "h100", {"wizardcoder-7b": engines(recipe, "h100")["wizardcoder-1b"]}, tmp_path)
    with pytest.raises(BuildError, match=r"No tier of wizardcoder has an engine\."):
        render_engines(recipe, "h100", {}, tmp_path)
