"""Each trap between a checkpoint and its engine is found from the config and the headers alone."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conversion import need_conversion

need_conversion()

import torch
from codecascade_build.checkpoints.preflight import check_checkpoint, expected_tensors
from codecascade_build.errors import BuildError
from codecascade_build.recipes import Architecture, families, load_recipe
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

# Small, and as the published models are: one key head in StarCoder, grouped ones and tied embeddings in Qwen2.
ARCHITECTURES = {
    "codegen": Architecture("GPTJForCausalLM", 2, 64, 8, 8, 8, 256, 40, 32),
    "gptj": Architecture("GPTJForCausalLM", 2, 64, 8, 8, 8, 256, 40, 32),
    "gpt_bigcode": Architecture("GPTForCausalLM", 2, 64, 8, 1, 8, 256, 40, 32, tied_embeddings=True),
    "llama": Architecture("LLaMAForCausalLM", 2, 64, 8, 8, 8, 96, 40, 32),
    "qwen2": Architecture("QWenForCausalLM", 2, 64, 8, 2, 8, 96, 40, 32, tied_embeddings=True),
}


def config_of(kind: str) -> dict[str, Any]:
    gpt: dict[str, Any] = {"n_layer": 2, "n_embd": 64, "n_head": 8, "n_inner": None, "layer_norm_epsilon": 1e-5}
    gpt |= {"vocab_size": 40, "n_positions": 32}
    llama: dict[str, Any] = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 8}
    llama |= {"intermediate_size": 96, "vocab_size": 40, "max_position_embeddings": 32}
    llama |= {"hidden_act": "silu", "rope_theta": 1e6, "rope_scaling": None}
    rotary = {"rotary_dim": 4, "activation_function": "gelu_new", "eos_token_id": 39}
    return {
        "codegen": gpt | rotary | {"architectures": ["CodeGenForCausalLM"]},
        "gptj": gpt | rotary | {"architectures": ["GPTJForCausalLM"]},
        "gpt_bigcode": gpt
        | {"architectures": ["GPTBigCodeForCausalLM"], "multi_query": True, "activation_function": "gelu", "eos_token_id": 39},
        "llama": llama | {"architectures": ["LlamaForCausalLM"], "eos_token_id": 39},
        "qwen2": llama
        | {"architectures": ["Qwen2ForCausalLM"], "num_key_value_heads": 2, "tie_word_embeddings": True, "eos_token_id": 38},
    }[kind] | {"model_type": kind}


def write_tokenizer(folder: Path) -> None:
    vocab = {chr(97 + number): number for number in range(26)}
    added = [{"id": 38, "content": "<|im_end|>"}, {"id": 39, "content": "<|endoftext|>"}]
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}, "added_tokens": added}))


def checkpoint(folder: Path, kind: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_of(kind)))
    shapes = list(expected_tensors(kind, ARCHITECTURES[kind]).items())
    weight_map: dict[str, str] = {}
    for number, part in enumerate((shapes[::2], shapes[1::2]), start=1):
        name = f"model-{number:05}-of-00002.safetensors"
        save_file({tensor: torch.zeros(shape, dtype=torch.float16) for tensor, shape in part}, folder / name)
        weight_map |= dict.fromkeys(dict(part), name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    write_tokenizer(folder)
    if kind == "qwen2":
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [38, 39]}))
    return folder


def check(folder: Path, kind: str, architecture: Architecture | None = None, stop_words: Sequence[str] | None = None) -> None:
    if stop_words is None:
        stop_words = ["<|endoftext|>"] if kind == "qwen2" else []
    check_checkpoint(folder, architecture or ARCHITECTURES[kind], end_tokens_as_stop_words=stop_words)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_sound_checkpoint_passes(kind: str, tmp_path: Path) -> None:
    check(checkpoint(tmp_path / "model", kind), kind)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # transformers' StarCoder compiles functions so
@pytest.mark.slow
@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_what_is_expected_is_what_transformers_saves(kind: str, form: str, tmp_path: Path) -> None:
    settings = config_of(kind)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(settings.pop("model_type"), **settings))
    model.save_pretrained(tmp_path, safe_serialization=form == "safetensors", max_shard_size="40KB")
    write_tokenizer(tmp_path)
    assert list(tmp_path.glob(f"*-00002-of-*.{form}"))
    check(tmp_path, kind)


def edit_config(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value != "absent"}))

    return edit


def with_weights(kind: str, dtype: torch.dtype = torch.float16, **changes: tuple[int, ...] | None) -> Callable[[Path], None]:
    """Other shapes, in one file. Names have __ for a full stop; None takes one away."""

    def edit(folder: Path) -> None:
        changed = {name.replace("__", "."): shape for name, shape in changes.items()}
        shapes = expected_tensors(kind, ARCHITECTURES[kind]) | changed
        tensors = {name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items() if shape is not None}
        save_file(tensors, folder / "model.safetensors")

    return edit


def rewrite(name: str, document: Any) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(json.dumps(document))


def cut(folder: Path) -> None:
    path = folder / "model-00002-of-00002.safetensors"
    os.truncate(path, path.stat().st_size - 1)


LARGE_ID = {"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 40, "content": "[PAD]"}]}
TRAPS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "codegen as llama": ("llama", edit_config(model_type="codegen"), r"'codegen' and .* 'llama' and \['LlamaForCausalLM'\]"),
    "not for text": ("qwen2", edit_config(architectures=["Qwen2Model"]), r"architectures \['Qwen2Model'\]; for QWenForCausalLM"),
    "another size": ("gptj", edit_config(n_layer=3), r"n_layer 3; the recipe's architecture has layers 2"),
    "another kv_heads": ("qwen2", edit_config(num_key_value_heads=8), r"num_key_value_heads 8; .* kv_heads 2"),
    "another head_dim": ("qwen2", edit_config(head_dim=16), r"head_dim 16; the recipe's architecture has head_dim 8"),
    "no size": ("gptj", edit_config(n_layer="absent"), r"n_layer None; the recipe's architecture has layers 2"),
    "not multi-query": ("gpt_bigcode", edit_config(multi_query=False), r"multi_query false; only true"),
    "tied by surprise": ("llama", edit_config(tie_word_embeddings=True), r"tie_word_embeddings true; .* tied_embeddings false"),
    "untied by silence": ("qwen2", edit_config(tie_word_embeddings="absent"), r"_embeddings false; .* tied_embeddings true"),
    "another activation": ("gptj", edit_config(activation_function="relu"), r"activation_function 'relu'; it must be gelu_new"),
    "exact GELU in CodeGen": ("codegen", edit_config(activation_function="gelu"), r"'gelu'; it must be gelu_new"),
    "no rotation": ("gptj", edit_config(rotary_dim=None), r"rotary_dim None; an even number up to 8"),
    "too much rotation": ("gptj", edit_config(rotary_dim=10), r"rotary_dim 10; an even number up to 8"),
    "no rope_theta": ("llama", edit_config(rope_theta="absent"), r"rope_theta None; a number over 0 is needed"),
    "scaled rope": ("qwen2", edit_config(rope_scaling={"type": "yarn"}), r"rope_scaling \{'type': 'yarn'\}; only null"),
    "sliding window": ("qwen2", edit_config(use_sliding_window=True), r"use_sliding_window true"),
    "unscaled attention": ("gpt_bigcode", edit_config(scale_attn_weights=False), r"scale_attn_weights false"),
    "quantized already": ("llama", edit_config(quantization_config={"quant_method": "awq"}), r"quantized already"),
    "a missing tensor": ("llama", with_weights("llama", lm_head__weight=None), r"lacks the tensor lm_head\.weight\.$"),
    "whole numbers": ("gptj", with_weights("gptj", torch.int8), r"holds \S+ as int8; float16, bfloat16, float32 can be built"),
    "a truncated shard": ("gpt_bigcode", cut, r"00002-of-00002\.safetensors is truncated"),
    "no config": ("llama", lambda folder: (folder / "config.json").unlink(), r"config\.json cannot be read"),
    "no tokenizer": ("llama", lambda folder: (folder / "tokenizer.json").unlink(), r"has no tokenizer"),
    "a token too many": ("llama", rewrite("tokenizer.json", LARGE_ID), r"token '\[PAD\]' with id 40; the model has 40 tokens"),
    "an added token too many": ("llama", rewrite("added_tokens.json", {"[PAD]": 41}), r"'\[PAD\]' with id 41"),
    "a strange tokenizer": ("llama", rewrite("tokenizer.json", {"model": {}}), r"tokenizer of .* cannot be understood"),
    "no end": ("llama", edit_config(eos_token_id=None), r"Neither generation_config\.json nor config\.json .* eos_token_id"),
}


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_is_found(name: str, tmp_path: Path) -> None:
    kind, spoil, sentence = TRAPS[name]
    folder = checkpoint(tmp_path / "model", kind)
    spoil(folder)
    with pytest.raises(BuildError, match=sentence) as raised:
        check(folder, kind)
    assert str(raised.value).endswith(".")
    assert "\n" not in str(raised.value)


def test_gpt_j_has_no_other_width_than_four_times(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", "gptj")
    edit_config(n_inner=128)(folder)
    with pytest.raises(BuildError, match="n_inner 128; TensorRT-LLM's GPT-J always takes 4 × n_embd, 256"):
        check(folder, "gptj", replace(ARCHITECTURES["gptj"], intermediate=128))


@pytest.mark.parametrize("kind", ["gptj", "gpt_bigcode"])
def test_heads_that_the_recipe_has_and_the_config_has_not(kind: str, tmp_path: Path) -> None:
    folder, right = checkpoint(tmp_path / "model", kind), ARCHITECTURES[kind]
    with pytest.raises(BuildError, match=f"means {right.kv_heads} kv_heads; the recipe's architecture has 4"):
        check(folder, kind, replace(right, kv_heads=4))
    with pytest.raises(BuildError, match="means heads of 64 ÷ 8 numbers; the recipe's architecture has head_dim 4"):
        check(folder, kind, replace(right, head_dim=4))


def test_masks_and_tables_of_old_versions_are_no_surprise(tmp_path: Path) -> None:
    buffers: dict[str, dict[str, tuple[int, ...]]] = {
        "codegen": {"transformer__h__0__attn__causal_mask": (1, 1, 32, 32), "transformer__h__0__attn__masked_bias": ()},
        "gpt_bigcode": {"transformer__h__1__attn__bias": (32, 32)},
        "llama": {"model__layers__0__self_attn__rotary_emb__inv_freq": (4,)},
    }
    for kind, extra in buffers.items():
        folder = checkpoint(tmp_path / kind, kind)
        with_weights(kind, **extra)(folder)
        check(folder, kind)


def test_tied_embeddings_may_be_saved_once_or_twice(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", "qwen2")  # twice
    with_weights("qwen2", lm_head__weight=None)(folder)
    check(folder, "qwen2")
    with_weights("qwen2", lm_head__weight=(41, 64))(folder)
    with pytest.raises(BuildError, match=r"lm_head.weight with the shape 41 × 64"):
        check(folder, "qwen2")


def test_of_qwen_s_two_end_tokens_one_has_to_be_a_stop_word(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", "qwen2")
    for stop_words in (["<|im_end|>"], ["<|endoftext|>"], ["<|im_end|>", "<|endoftext|>"]):
        check(folder, "qwen2", stop_words=stop_words)
    sentence = r"ends texts with <\|im_end\|> and <\|endoftext\|>; an engine takes one end_id"
    with pytest.raises(BuildError, match=sentence):
        check(folder, "qwen2", stop_words=[])
    (folder / "generation_config.json").unlink()  # config.json alone names one of them
    with pytest.raises(BuildError, match=sentence):
        check(folder, "qwen2", stop_words=[])
    with pytest.raises(BuildError, match=r"stop word '<\|eot\|>' is no token of"):
        check(folder, "qwen2", stop_words=["<|eot|>"])


def test_a_tokenizer_in_sentencepiece_alone_is_taken_at_its_word(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", "llama")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").touch()
    check(folder, "llama", stop_words=["</s>"])


@pytest.mark.parametrize("family", families())
def test_the_parameters_of_a_recipe_are_those_of_its_tensors(family: str) -> None:
    kinds = {"GPTJForCausalLM": "gptj", "GPTForCausalLM": "gpt_bigcode", "LLaMAForCausalLM": "llama", "QWenForCausalLM": "qwen2"}
    for tier in load_recipe(family).tiers:
        assert tier.checkpoint
        shape = tier.checkpoint.architecture
        tensors = expected_tensors(kinds[shape.model_class], shape)
        if shape.tied_embeddings:
            del tensors["lm_head.weight"]
        assert sum(map(math.prod, tensors.values())) == shape.parameters
