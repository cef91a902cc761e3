"""The tensors that each kind of checkpoint needs, and their shapes; matrices are (rows out, columns in)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from codecascade_build.checkpoints.shards import Shape, StoredTensor
from codecascade_build.errors import BuildError

Shapes = dict[str, Shape]

# Masks and tables that models save beside their weights and make anew when they are loaded.
_BUFFER = re.compile(r"\.(attn\.(bias|masked_bias|causal_mask|embed_positions)|rotary_emb\.inv_freq)$")


def is_buffer(name: str) -> bool:
    """A tensor that is no weight: a causal mask, its fill value, sines and cosines of positions."""
    return bool(_BUFFER.search(name))


def check_tensors(
    folder: Path, stored: Mapping[str, StoredTensor], expected: Mapping[str, Shape], optional: Collection[str] = ()
) -> None:
    """Raises BuildError unless the weights are those expected, no more, no fewer. optional: those that may be absent."""
    missing = [name for name in expected if name not in stored and name not in optional]
    if missing:
        raise BuildError(f"The checkpoint {folder} lacks the tensor {_first(missing)}.")
    extra = sorted(name for name in stored if name not in expected and not is_buffer(name))
    if extra:
        raise BuildError(f"The checkpoint {folder} holds the tensor {_first(extra)}, for which its model has no place.")
    for name, shape in expected.items():
        if name in stored and stored[name].shape != shape:
            raise BuildError(
                f"The checkpoint {folder} holds {name} with the shape {_times(stored[name].shape)}; {_times(shape)} is needed."
            )


def codegen_shapes(layers: int, hidden: int, intermediate: int, vocab: int) -> Shapes:
    """CodeGen: query, value and key of all heads in one matrix."""
    return _shapes_of_gptj_kind(layers, hidden, intermediate, vocab, {"qkv_proj": (3 * hidden, hidden)})


def gptj_shapes(layers: int, hidden: int, intermediate: int, vocab: int) -> Shapes:
    """GPT-J: as CodeGen, with a matrix each for query, key and value."""
    projections = {f"{name}_proj": (hidden, hidden) for name in "qkv"}
    return _shapes_of_gptj_kind(layers, hidden, intermediate, vocab, projections)


def gpt_bigcode_shapes(layers: int, hidden: int, intermediate: int, vocab: int, positions: int, head_dim: int) -> Shapes:
    """StarCoder with one key and one value head: learned positions, biases everywhere."""
    shapes: Shapes = {"transformer.wte.weight": (vocab, hidden), "transformer.wpe.weight": (positions, hidden)}
    for layer in range(layers):
        block = f"transformer.h.{layer}"
        shapes |= _with_bias(f"{block}.ln_1", (hidden,))
        shapes |= _with_bias(f"{block}.attn.c_attn", (hidden + 2 * head_dim, hidden))
        shapes |= _with_bias(f"{block}.attn.c_proj", (hidden, hidden))
        shapes |= _with_bias(f"{block}.ln_2", (hidden,))
        shapes |= _with_bias(f"{block}.mlp.c_fc", (intermediate, hidden))
        shapes |= _with_bias(f"{block}.mlp.c_proj", (hidden, intermediate))
    return shapes | _with_bias("transformer.ln_f", (hidden,)) | {"lm_head.weight": (vocab, hidden)}


def llama_shapes(layers: int, hidden: int, intermediate: int, vocab: int, queries: int, keys: int, biased: bool) -> Shapes:
    """Llama, and with biased query, key and value Qwen2. queries, keys: heads × head_dim."""
    shapes: Shapes = {"model.embed_tokens.weight": (vocab, hidden)}
    for layer in range(layers):
        block = f"model.layers.{layer}"
        for name, rows in {"q": queries, "k": keys, "v": keys}.items():
            shapes[f"{block}.self_attn.{name}_proj.weight"] = (rows, hidden)
            if biased:
                shapes[f"{block}.self_attn.{name}_proj.bias"] = (rows,)
        shapes[f"{block}.self_attn.o_proj.weight"] = (hidden, queries)
        shapes[f"{block}.mlp.gate_proj.weight"] = (intermediate, hidden)
        shapes[f"{block}.mlp.up_proj.weight"] = (intermediate, hidden)
        shapes[f"{block}.mlp.down_proj.weight"] = (hidden, intermediate)
        shapes[f"{block}.input_layernorm.weight"] = (hidden,)
        shapes[f"{block}.post_attention_layernorm.weight"] = (hidden,)
    return shapes | {"model.norm.weight": (hidden,), "lm_head.weight": (vocab, hidden)}


def _shapes_of_gptj_kind(layers: int, hidden: int, intermediate: int, vocab: int, projections: Mapping[str, Shape]) -> Shapes:
    shapes: Shapes = {"transformer.wte.weight": (vocab, hidden)}
    for layer in range(layers):
        block = f"transformer.h.{layer}"
        shapes |= _with_bias(f"{block}.ln_1", (hidden,))
        shapes |= {f"{block}.attn.{name}.weight": shape for name, shape in projections.items()}
        shapes[f"{block}.attn.out_proj.weight"] = (hidden, hidden)
        shapes |= _with_bias(f"{block}.mlp.fc_in", (intermediate, hidden))
        shapes |= _with_bias(f"{block}.mlp.fc_out", (hidden, intermediate))
    return shapes | _with_bias("transformer.ln_f", (hidden,)) | _with_bias("lm_head", (vocab, hidden))


def _with_bias(name: str, shape: Shape) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _first(names: list[str]) -> str:
    return names[0] + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


def _times(shape: Shape) -> str:
    return " × ".join(map(str, shape)) or "of one number"
