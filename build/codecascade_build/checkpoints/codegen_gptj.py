"""Turns a CodeGen checkpoint into a GPT-J checkpoint: python -m codecascade_build.checkpoints.codegen_gptj SOURCE_DIR TARGET_DIR

The two models compute the same; TensorRT-LLM has a class for GPT-J alone. CodeGen keeps query, value and key in one matrix
of four groups, each (query, value, key); all other tensors keep their names. The memory needed is one file of the source,
mapped, and one file of the target. TARGET_DIR appears when all of it is on the disk.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codecascade_build.checkpoints.shards import StoredTensor, need_libraries, read_checkpoint, read_json
from codecascade_build.checkpoints.tensor_shapes import check_tensors, codegen_shapes, is_buffer
from codecascade_build.errors import BuildError
from codecascade_build.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

Report = Callable[[int, int], None]


class DType(str, Enum):
    """The types that an engine can be built from."""

    float16 = "float16"
    bfloat16 = "bfloat16"
    float32 = "float32"


_ITEM_BYTES = {DType.float16: 2, DType.bfloat16: 2, DType.float32: 4}
_GROUPS = 4  # the parts that qkv_proj's rows come in
_SHARD_BYTES = 1_000_000_000
_NEEDED = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "rotary_dim", "activation_function", "layer_norm_epsilon")
_KEPT_IF_THERE = (
    "n_inner",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "initializer_range",
    "use_cache",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "tokenizer_class",
)
_COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def _command(
    source: Annotated[Path, typer.Argument(help="A folder with config.json, weights and tokenizer of a CodeGen model.")],
    target: Annotated[Path, typer.Argument(help="The folder to make; it must not exist.")],
    dtype: Annotated[DType | None, typer.Option(help="The weights' type; default: the source's.")] = None,
) -> None:
    progress = Progress()
    with progress.of(f"Converting {source.name}", None) as report:
        convert(source, target, dtype.value if dtype else None, report=report)
    progress.say(f"{target} is the GPT-J checkpoint of {source}.")


def convert(
    source: Path,
    target: Path,
    dtype: str | None = None,
    *,
    shard_bytes: int = _SHARD_BYTES,
    report: Report = lambda done, total: None,
) -> None:
    """Write the GPT-J checkpoint. dtype: as torch calls it, None for the source's. Raises BuildError.

    report is called after every tensor with the bytes done and those to write. A run that is killed leaves TARGET.partial
    without a config.json, which the next run removes.
    """
    need_libraries()
    from safetensors import SafetensorError

    if target.exists():
        raise BuildError(f"The target {target} exists already; remove it or name another.")
    config = gptj_config(read_json(source / "config.json"), source)
    hidden = config["n_embd"]
    tensors = read_checkpoint(source)
    shapes = codegen_shapes(config["n_layer"], hidden, config.get("n_inner") or 4 * hidden, config["vocab_size"])
    check_tensors(source, tensors, shapes)
    weights = {name: tensor for name, tensor in tensors.items() if not is_buffer(name)}
    chosen = DType(dtype or _common_dtype(source, weights))
    tokenizer = _tokenizer_files(source)
    total = sum(math.prod(shape) for shape in shapes.values()) * _ITEM_BYTES[chosen]
    partial = target.with_name(f"{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(partial, _converted(weights, hidden, chosen), shard_bytes, lambda done: report(done, total))
        for path in tokenizer:
            shutil.copyfile(path, partial / path.name)
        _write_json(partial / "config.json", config | {"torch_dtype": chosen.value})
        _sync(partial)
        partial.rename(target)
    except OSError as error:
        raise BuildError(f"{error.filename or partial} cannot be written: {error.strerror}.") from error
    except SafetensorError as error:
        raise BuildError(f"{partial} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def gptj_config(codegen: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """The config.json of the same model as a GPT-J. Raises BuildError if it is not CodeGen's or has no GPT-J form."""
    if codegen.get("model_type") != "codegen" or codegen.get("architectures") != ["CodeGenForCausalLM"]:
        raise BuildError(
            f"{source} holds a {codegen.get('model_type')!r} model with the architectures {codegen.get('architectures')!r}; "
            "'codegen' with ['CodeGenForCausalLM'] is needed."
        )
    absent = [name for name in _NEEDED if codegen.get(name) is None]
    if absent:
        raise BuildError(f"{source / 'config.json'} has no {absent[0]}.")
    if codegen.get("tie_word_embeddings"):
        raise BuildError(f"{source / 'config.json'} has tie_word_embeddings true; CodeGen's output matrix must be its own.")
    config = {name: codegen[name] for name in (*_NEEDED, *_KEPT_IF_THERE) if name in codegen}
    _check_heads(config, source)
    return {"architectures": ["GPTJForCausalLM"], "model_type": "gptj", "tie_word_embeddings": False} | config


def _check_heads(config: Mapping[str, Any], source: Path) -> None:
    numbers = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "rotary_dim", "n_inner")
    for name in numbers:
        value = config.get(name)
        if value is not None and (type(value) is not int or value < 1):
            raise BuildError(f"{source / 'config.json'} has {name} {value!r}; a positive whole number is needed.")
    heads, hidden, rotary = config["n_head"], config["n_embd"], config["rotary_dim"]
    if heads % _GROUPS or hidden % heads:
        raise BuildError(
            f"{source / 'config.json'} has n_head {heads} and n_embd {hidden}; "
            f"n_head must be a multiple of {_GROUPS}, and n_embd a multiple of n_head."
        )
    if rotary % 2 or rotary > hidden // heads:
        raise BuildError(f"{source / 'config.json'} has rotary_dim {rotary}; an even number up to {hidden // heads} is needed.")


def _common_dtype(source: Path, weights: Mapping[str, StoredTensor]) -> str:
    dtypes = sorted({tensor.dtype for tensor in weights.values()})
    allowed = [dtype.value for dtype in DType]
    if len(dtypes) > 1 or dtypes[0] not in allowed:
        raise BuildError(f"The weights of {source} are {' and '.join(dtypes)}; choose one type with --dtype {'|'.join(allowed)}.")
    return dtypes[0]


def _tokenizer_files(source: Path) -> list[Path]:
    files = [source / name for name in _COPIED if (source / name).is_file()]
    names = {path.name for path in files}
    if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= names:
        raise BuildError(f"{source} has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt is there.")
    return files


def _converted(weights: Mapping[str, StoredTensor], hidden: int, dtype: DType) -> Iterator[tuple[str, Tensor]]:
    """The target's tensors. Raises BuildError if a number is not finite, or is not in the type that is written."""
    import torch

    for name, tensor in _loaded(weights):
        prefix, qkv, suffix = name.partition("qkv_proj")
        groups = tensor.view(_GROUPS, 3, hidden // _GROUPS, hidden) if qkv else None
        parts = {f"{prefix}{letter}_proj{suffix}": place for place, letter in enumerate("qvk")} if qkv else {name: 0}
        for new_name, place in parts.items():
            part = tensor if groups is None else groups[:, place].reshape(hidden, hidden)
            part = part.to(getattr(torch, dtype.value)).contiguous()
            if not torch.isfinite(part).all():
                raise BuildError(f"{name} holds a number that is not finite as {dtype.value}.")
            yield new_name, part


def _loaded(weights: Mapping[str, StoredTensor]) -> Iterator[tuple[str, Tensor]]:
    """The tensors, file by file. Files are mapped, so only the pages of the tensors in use are read."""
    import torch
    from safetensors import safe_open

    for path in sorted({tensor.file for tensor in weights.values()}):
        names = [name for name, tensor in weights.items() if tensor.file == path]
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as shard:
                for name in names:
                    yield name, shard.get_tensor(name)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            for name in names:
                yield name, state.pop(name)


def _write(folder: Path, tensors: Iterator[tuple[str, Tensor]], shard_bytes: int, report: Callable[[int], None]) -> None:
    """Writes files of at most shard_bytes, or of one larger tensor, and an index if there are several."""
    from safetensors.torch import save_file

    shards: list[list[str]] = []
    shard: dict[str, Tensor] = {}
    size = done = 0

    def flush() -> None:
        shards.append(list(shard))
        save_file(shard, folder / f"{len(shards)}.safetensors", metadata={"format": "pt"})
        shard.clear()

    for name, tensor in tensors:
        if shard and size + tensor.nbytes > shard_bytes:
            flush()
            size = 0
        shard[name] = tensor
        size += tensor.nbytes
        done += tensor.nbytes
        report(done)
    flush()
    if len(shards) == 1:
        (folder / "1.safetensors").rename(folder / "model.safetensors")
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        (folder / f"{number}.safetensors").rename(folder / file)
        weight_map |= dict.fromkeys(names, file)
    _write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": done}, "weight_map": weight_map})


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _sync(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


if __name__ == "__main__":
    try:
        app()
    except BuildError as error:
        sys.exit(f"error: {error}")
