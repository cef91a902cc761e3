"""Checks a checkpoint against its recipe, so that neither its conversion nor its engine fails late or answers nonsense.

Reads config.json, the tokenizer and the headers of the weights. Loads no weights and needs no GPU.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecascade_build.checkpoints.codegen_gptj import gptj_config
from codecascade_build.checkpoints.shards import read_checkpoint, read_json
from codecascade_build.checkpoints.tensor_shapes import (
    Shapes,
    check_tensors,
    codegen_shapes,
    gpt_bigcode_shapes,
    gptj_shapes,
    is_buffer,
    llama_shapes,
)
from codecascade_build.errors import BuildError
from codecascade_build.recipes import Architecture

_WEIGHT_TYPES = ("float16", "bfloat16", "float32")
_QWEN_ENDS = ("<|im_end|>", "<|endoftext|>")
_GPT_KEYS = {
    "layers": "n_layer",
    "hidden": "n_embd",
    "heads": "n_head",
    "intermediate": "n_inner",
    "vocab": "vocab_size",
    "positions": "n_positions",
}
_LLAMA_KEYS = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "intermediate": "intermediate_size",
    "vocab": "vocab_size",
    "positions": "max_position_embeddings",
}


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of config.json."""

    model_type: str
    architecture: str
    keys: Mapping[str, str]
    """Field of an Architecture → key of config.json."""
    activations: tuple[str, ...]
    tied: bool = False
    """What tie_word_embeddings means where it is absent."""


_CODEGEN = _Kind("codegen", "CodeGenForCausalLM", _GPT_KEYS, ("gelu_new",))
_KINDS = {
    # TensorRT-LLM's GPT-J has the tanh approximation of GELU built in.
    "GPTJForCausalLM": (_Kind("gptj", "GPTJForCausalLM", _GPT_KEYS, ("gelu_new",)), _CODEGEN),
    "GPTForCausalLM": (
        _Kind("gpt_bigcode", "GPTBigCodeForCausalLM", _GPT_KEYS, ("gelu", "gelu_new", "gelu_pytorch_tanh"), tied=True),
    ),
    "LLaMAForCausalLM": (_Kind("llama", "LlamaForCausalLM", _LLAMA_KEYS, ("silu",)),),
    "QWenForCausalLM": (_Kind("qwen2", "Qwen2ForCausalLM", _LLAMA_KEYS, ("silu",)),),
}


def check_checkpoint(folder: Path, architecture: Architecture, *, end_tokens_as_stop_words: Sequence[str] = ()) -> None:
    """Raises BuildError, one sentence, unless the checkpoint is whole, is that architecture, and an engine computes the same.

    A CodeGen checkpoint passes for GPTJForCausalLM, because codegen_gptj converts it.
    end_tokens_as_stop_words: end tokens that requests will carry as stop words, because an engine knows one end only.
    """
    path = folder / "config.json"
    config = read_json(path)
    kind = _kind(path, config, architecture.model_class)
    if kind is _CODEGEN:
        config = gptj_config(config, folder)
    _check_numbers(path, config, kind, architecture)
    _check_behaviour(path, config, kind, architecture)
    _check_weights(folder, kind, architecture)
    ids, complete = _read_tokenizer(folder, architecture.vocab)
    unknown = [word for word in end_tokens_as_stop_words if complete and word not in ids]
    if unknown:
        raise BuildError(f"The stop word {unknown[0]!r} is no token of {folder}.")
    _check_ends(folder, config, architecture, ids, end_tokens_as_stop_words)


def _kind(path: Path, config: Mapping[str, Any], model_class: str) -> _Kind:
    for kind in _KINDS[model_class]:
        if config.get("model_type") == kind.model_type and config.get("architectures") == [kind.architecture]:
            return kind
    needed = " or ".join(f"{kind.model_type!r} and [{kind.architecture!r}]" for kind in _KINDS[model_class])
    raise BuildError(
        f"{path} has model_type {config.get('model_type')!r} and architectures {config.get('architectures')!r}; "
        f"for {model_class} these must be {needed}."
    )


def _check_numbers(path: Path, config: Mapping[str, Any], kind: _Kind, architecture: Architecture) -> None:
    """config.json and the recipe describe one model."""
    for field, key in kind.keys.items():
        expected = getattr(architecture, field)
        implied = {"intermediate": 4 * architecture.hidden, "kv_heads": architecture.heads}
        implied["head_dim"] = architecture.hidden // architecture.heads
        value = config.get(key) if config.get(key) is not None else implied.get(field)
        if type(value) is not int or value != expected:
            raise BuildError(f"{path} has {key} {value!r}; the recipe's architecture has {field} {expected}.")
    if kind.keys is _GPT_KEYS:
        _check_gpt_heads(path, config, kind, architecture)
    tied = config.get("tie_word_embeddings", kind.tied)
    if tied != architecture.tied_embeddings:
        raise BuildError(
            f"{path} has tie_word_embeddings {json.dumps(tied)}; the recipe's architecture has tied_embeddings "
            f"{json.dumps(architecture.tied_embeddings)}."
        )


def _check_gpt_heads(path: Path, config: Mapping[str, Any], kind: _Kind, architecture: Architecture) -> None:
    if kind.model_type == "gpt_bigcode" and config.get("multi_query") is not True:
        raise BuildError(f"{path} has multi_query {json.dumps(config.get('multi_query'))}; only true can be built.")
    kv_heads = 1 if kind.model_type == "gpt_bigcode" else architecture.heads
    if architecture.kv_heads != kv_heads:
        raise BuildError(f"{path} means {kv_heads} kv_heads; the recipe's architecture has {architecture.kv_heads}.")
    if architecture.heads * architecture.head_dim != architecture.hidden:
        raise BuildError(
            f"{path} means heads of {architecture.hidden} ÷ {architecture.heads} numbers; "
            f"the recipe's architecture has head_dim {architecture.head_dim}."
        )


def _check_behaviour(path: Path, config: Mapping[str, Any], kind: _Kind, architecture: Architecture) -> None:
    """Refuses settings that an engine would silently ignore."""
    key = "activation_function" if kind.keys is _GPT_KEYS else "hidden_act"
    if config.get(key) not in kind.activations:
        raise BuildError(f"{path} has {key} {config.get(key)!r}; it must be {' or '.join(kind.activations)}.")
    if config.get("quantization_config"):
        raise BuildError(
            f"{path} has a quantization_config: the weights are quantized already; weights in floating point are needed."
        )
    if config.get("scale_attn_weights") is False:
        raise BuildError(f"{path} has scale_attn_weights false; engines always scale.")
    if kind.keys is _LLAMA_KEYS:
        _check_rope(path, config)
    elif kind.model_type != "gpt_bigcode":
        rotary = config.get("rotary_dim")
        if type(rotary) is not int or rotary % 2 or not 0 < rotary <= architecture.head_dim:
            raise BuildError(f"{path} has rotary_dim {rotary!r}; an even number up to {architecture.head_dim} is needed.")
        if architecture.intermediate != 4 * architecture.hidden:
            raise BuildError(
                f"{path} has n_inner {architecture.intermediate}; TensorRT-LLM's GPT-J always takes 4 × n_embd, "
                f"{4 * architecture.hidden}."
            )


def _check_rope(path: Path, config: Mapping[str, Any]) -> None:
    theta = config.get("rope_theta")
    if not isinstance(theta, (int, float)) or isinstance(theta, bool) or theta <= 0:
        raise BuildError(
            f"{path} has rope_theta {theta!r}; a number over 0 is needed: an engine would take a default, and write nonsense."
        )
    if config.get("rope_scaling") is not None:
        raise BuildError(f"{path} has rope_scaling {config['rope_scaling']!r}; only null can be built.")
    if config.get("use_sliding_window"):
        raise BuildError(f"{path} has use_sliding_window true; only false can be built.")


def _check_weights(folder: Path, kind: _Kind, architecture: Architecture) -> None:
    tensors = read_checkpoint(folder)
    optional = ("lm_head.weight",) if architecture.tied_embeddings else ()
    check_tensors(folder, tensors, expected_tensors(kind.model_type, architecture), optional)
    for name, tensor in tensors.items():
        if tensor.dtype not in _WEIGHT_TYPES and not is_buffer(name):
            raise BuildError(f"The checkpoint {folder} holds {name} as {tensor.dtype}; {', '.join(_WEIGHT_TYPES)} can be built.")


def expected_tensors(model_type: str, architecture: Architecture) -> Shapes:
    """Name and shape of every weight. model_type: as config.json has it."""
    numbers = (architecture.layers, architecture.hidden, architecture.intermediate, architecture.vocab)
    if model_type == "codegen":
        return codegen_shapes(*numbers)
    if model_type == "gptj":
        return gptj_shapes(*numbers)
    if model_type == "gpt_bigcode":
        return gpt_bigcode_shapes(*numbers, architecture.positions, architecture.head_dim)
    queries, keys = (heads * architecture.head_dim for heads in (architecture.heads, architecture.kv_heads))
    return llama_shapes(*numbers, queries, keys, biased=model_type == "qwen2")


def _read_tokenizer(folder: Path, vocab: int) -> tuple[dict[str, int], bool]:
    """The ids of the tokens that text files name, and whether these are all tokens; a SentencePiece model is no text file."""
    ids: dict[str, int] = {}
    try:
        if (folder / "tokenizer.json").is_file():
            document = read_json(folder / "tokenizer.json")
            known = document["model"]["vocab"]
            ids |= known if isinstance(known, dict) else {token: number for number, (token, _) in enumerate(known)}
            ids |= {token["content"]: token["id"] for token in document.get("added_tokens", [])}
        elif (folder / "vocab.json").is_file():
            ids |= read_json(folder / "vocab.json")
        elif not (folder / "tokenizer.model").is_file():
            raise BuildError(
                f"The checkpoint {folder} has no tokenizer: no tokenizer.json, vocab.json or tokenizer.model is there."
            )
        complete = bool(ids)
        if (folder / "added_tokens.json").is_file():
            ids |= read_json(folder / "added_tokens.json")
        if (folder / "tokenizer_config.json").is_file():
            added = read_json(folder / "tokenizer_config.json").get("added_tokens_decoder", {})
            ids |= {token["content"]: int(number) for number, token in added.items()}
        largest = max(ids.items(), key=lambda item: item[1], default=("", -1))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise BuildError(f"The tokenizer of {folder} cannot be understood: {error!r}.") from error
    if largest[1] >= vocab:
        raise BuildError(
            f"The tokenizer of {folder} has the token {largest[0]!r} with id {largest[1]}; the model has {vocab} tokens."
        )
    return ids, complete


def _check_ends(
    folder: Path, config: Mapping[str, Any], architecture: Architecture, ids: Mapping[str, int], stop_words: Sequence[str]
) -> None:
    """All end tokens but one must be stop words: an engine takes one end_id."""
    ends = _end_tokens(folder, config, ids)
    if architecture.model_class == "QWenForCausalLM":
        ends |= {token: None for token in _QWEN_ENDS if token in ids}
    if not ends:
        raise BuildError(f"Neither generation_config.json nor config.json of {folder} has an eos_token_id.")
    open_ends = [token for token in ends if token not in stop_words]
    if len(open_ends) > 1:
        raise BuildError(
            f"The model of {folder} ends texts with {' and '.join(ends)}; an engine takes one end_id, so all but one must be "
            f"stop words, and {' and '.join(open_ends)} are not."
        )


def _end_tokens(folder: Path, config: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, None]:
    """The names of the tokens that end a text, in the order of the checkpoint's files."""
    ends = None
    if (folder / "generation_config.json").is_file():
        ends = read_json(folder / "generation_config.json").get("eos_token_id")
    if ends is None:
        ends = config.get("eos_token_id")
    numbers = ends if isinstance(ends, list) else [] if ends is None else [ends]
    names = {number: token for token, number in ids.items()}
    return {names.get(number, f"token {number}"): None for number in numbers}
