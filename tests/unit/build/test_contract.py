"""Every command that a recipe can lead to is one that the pinned TensorRT-LLM takes; so are the models and the calls."""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from codecascade_build.checkpoints import trtllm_checkpoint as trtllm_checkpoint
from codecascade_build.engine.contract import VERSION, Contract, check_argv, load_contract
from codecascade_build.engine.steps import engine_build, steps
from codecascade_build.errors import BuildError
from codecascade_build.gpus import GPUS
from codecascade_build.paths import CONTRACTS
from codecascade_build.recipes import families, load_recipe

BUILD = ("trtllm-build", "--checkpoint_dir", "c", "--output_dir", "e")


@pytest.fixture
def contract() -> Contract:
    return load_contract()


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("family", families())
def test_every_command_of_every_recipe_on_every_gpu_keeps_the_contract(contract: Contract, family: str, gpu: str) -> None:
    recipe = load_recipe(family)
    argvs = [step.argv for step in steps(engine_build(recipe, GPUS[gpu]))]
    for argv in argvs:
        check_argv(contract, argv)
    named = [Path(word).name for argv in argvs for word in argv[:5]]  # behind env, its settings and python3
    quantized = [tier for tier in recipe.tiers if tier.gpu and tier.gpu.on_gpu(gpu).quantization != "none"]
    assert named.count("trtllm-build") == len(recipe.tiers)
    assert named.count("quantize.py") == len(quantized)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--max_batch_sise", "64"), r": unrecognized arguments: --max_batch_sise 64\.$"),
        (("--max_batch", "64"), r": unrecognized arguments: --max_batch 64\.$"),
        (("--tp_size", "2"), r" has no --tp_size any more \(a checkpoint's own\)\.$"),
        (("--builder_opt", "2"), r" has no --builder_opt any more\.$"),
        (("--kv_cache_type", "sparse"), r": argument --kv_cache_type: invalid choice: 'sparse' \(choose from .*paged"),
        (("--workers", "two"), r": argument --workers: invalid int value: 'two'\.$"),
        (("--output_dir", "f"), r" is given --output_dir twice\.$"),
        (("--dry_run", "yes"), r": unrecognized arguments: yes\.$"),
    ],
)
def test_a_command_that_is_not_of_this_version_is_refused(contract: Contract, arguments: tuple[str, ...], problem: str) -> None:
    with pytest.raises(BuildError, match=f"^trtllm-build of TensorRT-LLM 1.2.1{problem}"):
        check_argv(contract, (*BUILD, *arguments))


def test_a_command_is_recognised_behind_its_environment_and_its_python(contract: Contract) -> None:
    argv = ("env", "A=1", "python3", "/app/examples/quantization/quantize.py", "--qformat")
    check_argv(contract, (*argv, "fp8"))
    with pytest.raises(BuildError, match=r"^quantize.py of .*: argument --qformat: invalid choice: 'fp6' "):
        check_argv(contract, (*argv, "fp6"))


def test_flags_that_take_none_or_many_values_pass(contract: Contract) -> None:
    check_argv(contract, (*BUILD, "--dry_run", "--lora_dir", "one", "two", "--workers", "2"))


def test_a_version_without_a_contract_is_refused() -> None:
    with pytest.raises(BuildError, match=r"The contract .*9\.9\.json cannot be read"):
        load_contract("9.9")


def test_the_contract_says_of_everything_where_it_was_read() -> None:
    document = json.loads((CONTRACTS / f"{VERSION}.json").read_text())
    assert document["tensorrt_llm"] == VERSION
    for group in ("commands", "models", "signatures"):
        for name, entry in document[group].items():
            sources = entry["source"] if isinstance(entry["source"], list) else [entry["source"]]
            for source in sources:
                assert source["repository"] == "NVIDIA/TensorRT-LLM", name
                assert source["path"], name
                assert source["commit"] or "not known" in source["note"], name


class Stand:
    """What trtllm_checkpoint uses of tensorrt_llm, with the signatures of the contract; notes the calls."""

    def __init__(self, contract: Contract) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.contract = contract

    def callable(self, name: str, result: Any = None) -> Any:
        parameters = [
            inspect.Parameter(
                parameter["name"],
                getattr(inspect.Parameter, parameter.get("kind", "POSITIONAL_OR_KEYWORD")),
                default=parameter.get("default", inspect.Parameter.empty),
            )
            for parameter in self.contract.signatures[name]["parameters"]
            if parameter["name"] != "self"
        ]
        signature = inspect.Signature(parameters)

        def call(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)  # TypeError for what the signature has not
            self.calls.append((name.rpartition(".")[2], dict(bound.arguments)))
            return result() if callable(result) else result

        return call


@pytest.mark.parametrize("model_class", trtllm_checkpoint.MODEL_CLASSES)
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_checkpoint_script_calls_what_the_contract_has(
    contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_class: str, ranks: int
) -> None:
    stand = Stand(contract)
    model = SimpleNamespace(save_checkpoint=stand.callable("tensorrt_llm.models.PretrainedModel.save_checkpoint"))
    loading = stand.callable(f"tensorrt_llm.models.{model_class}.from_hugging_face", model)
    converter = SimpleNamespace(from_hugging_face=loading)
    package, models, utils = ModuleType("tensorrt_llm"), ModuleType("tensorrt_llm.models"), ModuleType("modeling_utils")
    vars(package).update(models=models, Mapping=stand.callable("tensorrt_llm.Mapping", "a mapping"))
    vars(utils).update(QuantConfig=stand.callable("tensorrt_llm.models.modeling_utils.QuantConfig", "no quantization"))
    setattr(models, model_class, converter)
    for name, module in {package.__name__: package, models.__name__: models, f"{models.__name__}.modeling_utils": utils}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(trtllm_checkpoint, "_loaded", lambda folder, dtype: f"{folder} loaded as {dtype}")

    variant = ["--gpt-variant", "starcoder"] if model_class == "GPTForCausalLM" else []
    options = ["--model-class", model_class, "--model-dir", "m", "--output-dir", str(tmp_path / "c"), "--dtype", "float16"]
    trtllm_checkpoint.main([*options, "--tp-size", str(ranks), *variant])

    saves = [arguments for name, arguments in stand.calls if name == "save_checkpoint"]
    assert [save["save_config"] for save in saves] == [True, *[False] * (ranks - 1)]
    mappings = [arguments for name, arguments in stand.calls if name == "Mapping"]
    assert mappings == [{"world_size": ranks, "rank": rank, "tp_size": ranks} for rank in range(ranks)]
    for arguments in (arguments for name, arguments in stand.calls if name == "from_hugging_face"):
        loaded = {"hf_model_or_dir": "m loaded as float16", "kwargs": {"gpt_variant": "starcoder"}}
        expected = {"dtype": "float16", "mapping": "a mapping", "quant_config": "no quantization"}
        assert arguments == {"hf_model_or_dir": "m"} | expected | (loaded if variant else {})


def capture() -> Any:
    spec = importlib.util.spec_from_file_location("capture", CONTRACTS / "capture.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_flags_are_captured_from_a_parser() -> None:
    def parse_enum(value: str) -> str:
        return value

    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--dry_run", action="store_true")
    parser.add_argument("--max_seq_len", "--max_decoder_seq_len", type=int)
    parser.add_argument("--gemm_plugin", choices=["auto", "disable"])
    parser.add_argument("--lora_dir", nargs="+")
    parser.add_argument("--kv_cache_type", type=parse_enum)
    assert capture().flags_of(parser) == {
        "--workers": {"type": "int"},
        "--dry_run": {"type": "flag"},
        "--max_seq_len": {"type": "int"},
        "--max_decoder_seq_len": {"type": "int"},
        "--gemm_plugin": {"type": "str", "choices": ["auto", "disable"]},
        "--lora_dir": {"type": "str", "nargs": "+"},
        "--kv_cache_type": {"type": "str", "choices": ["continuous", "paged", "disabled"]},
    }


def test_the_flags_of_a_script_are_captured_without_running_it(tmp_path: Path) -> None:
    script = tmp_path / "quantize.py"
    script.write_text(
        "import argparse\nif __name__ == '__main__':\n    parser = argparse.ArgumentParser()\n"
        "    parser.add_argument('--qformat')\n    parser.parse_args()\n    raise RuntimeError('it ran')\n"
    )
    assert capture().flags_of(capture().script_parser(script)) == {"--qformat": {"type": "str"}}
    script.write_text("print('nothing')")
    with pytest.raises(SystemExit, match=r"parses no arguments\.$"):
        capture().script_parser(script)


def test_a_template_is_captured_with_its_placeholders() -> None:
    template = """
        name: "tensorrt_llm"
        backend: "${triton_backend}"
        max_batch_size: ${triton_max_batch_size}
        model_transaction_policy { decoupled: ${decoupled_mode} }
        dynamic_batching { preferred_batch_size: [ ${triton_max_batch_size} ] }
        input [
          { name: "input_ids" data_type: TYPE_INT32 dims: [ -1 ] },
          { name: "draft_logits" data_type: ${logits_datatype} dims: [ -1, -1 ] optional: true }
        ]
        output [ { name: "output_ids" data_type: TYPE_INT32 dims: [ -1, -1 ] } ]
        instance_group [ { count: ${count} kind: KIND_CPU } ]
        parameters: { key: "gpt_model_path" value: { string_value: "${engine_dir}" } }
    """
    assert capture().model_of(template) == {
        "backend": "${triton_backend}",
        "inputs": {
            "input_ids": {"type": "TYPE_INT32", "dims": [-1]},
            "draft_logits": {"type": "${logits_datatype}", "dims": [-1, -1], "optional": True},
        },
        "outputs": {"output_ids": {"type": "TYPE_INT32", "dims": [-1, -1]}},
        "parameters": {"gpt_model_path": "${engine_dir}"},
    }


def test_a_capture_keeps_what_was_read_about_behaviour(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    image = ModuleType("tensorrt_llm")
    monkeypatch.setitem(sys.modules, "tensorrt_llm", image)
    monkeypatch.setattr(image, "__version__", "1.2.2", raising=False)
    before = {"commands": {}, "models": {}, "signatures": {}, "behaviour": {"log_probs": {"facts": ["known"]}}}
    captured = capture().capture(before, tmp_path, tmp_path / "quantize.py")
    assert (captured["tensorrt_llm"], captured["behaviour"]) == ("1.2.2", before["behaviour"])


def test_signatures_are_captured_by_name() -> None:
    assert capture().parameters_of(capture().named("json.JSONEncoder.encode")) == [{"name": "self"}, {"name": "o"}]
    assert capture().parameters_of(capture().named("textwrap.dedent")) == [{"name": "text"}]
    shown = capture().parameters_of(capture().named("shutil.copyfile"))
    assert shown[2] == {"name": "follow_symlinks", "default": "True", "kind": "KEYWORD_ONLY"}
    with pytest.raises(SystemExit, match=r"^There is no nothing\.like\.this\.$"):
        capture().named("nothing.like.this")
