"""Turns a CodeGen checkpoint into a GPT-J checkpoint: python -m codecascade_build.checkpoints.codegen_gptj SOURCE_DIR TARGET_DIR

The two models compute the same; TensorRT-LLM has a class for GPT-J alone. CodeGen keeps query, value and key in one matrix
of four groups, each (query, value, key); all other tensors keep their names. Needs torch, and of memory one file of the
source, mapped, and the tensors being written: TARGET_DIR appears when all of it is on the disk.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codecascade_build.checkpoints.shards import ITEM_BYTES, Shape, StoredTensor, read_checkpoint, read_json
from codecascade_build.checkpoints.tensor_shapes import check_tensors, codegen_shapes, gptj_shapes, is_buffer
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


_GROUPS = 4  # of qkv_proj's rows
_SHARD_BYTES = 4_000_000_000
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

    report is called after every tensor with the bytes written and those to write. A run that is killed leaves TARGET.partial
    without a config.json, which the next run removes.
    """
    if target.exists():
        raise BuildError(f"The target {target} exists already; remove it or name another.")
    config = gptj_config(read_json(source / "config.json"), source)
    hidden = config["n_embd"]
    numbers = (config["n_layer"], hidden, config.get("n_inner") or 4 * hidden, config["vocab_size"])
    tensors = read_checkpoint(source)
    check_tensors(source, tensors, codegen_shapes(*numbers))
    weights = {name: tensor for name, tensor in tensors.items() if not is_buffer(name)}
    chosen = dtype or _common_dtype(source, weights)
    tokenizer = _tokenizer_files(source)
    partial = target.with_name(f"{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        output = _Output(partial, gptj_shapes(*numbers), chosen, shard_bytes, report)
        for name, tensor in _each(weights):
            for new_name, new_tensor in _converted(name, tensor, hidden):
                output.write(new_name, new_tensor)
        output.finish()
        for path in tokenizer:
            shutil.copyfile(path, partial / path.name)
        (partial / "config.json").write_text(json.dumps(config | {"torch_dtype": chosen}, indent=2) + "\n", encoding="utf-8")
        _sync(partial)
        partial.rename(target)
    except OSError as error:
        raise BuildError(f"{error.filename or partial} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def gptj_config(codegen: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """The config.json of the same model as a GPT-J. Raises BuildError if it is not CodeGen's or cannot be one."""
    if codegen.get("model_type") != "codegen" or codegen.get("architectures") != ["CodeGenForCausalLM"]:
        raise BuildError(
            f"{source} holds a {codegen.get('model_type')!r} model with the architectures {codegen.get('architectures')!r}; "
            "'codegen' with ['CodeGenForCausalLM'] is needed."
        )
    absent = [name for name in _NEEDED if codegen.get(name) is None]
    if absent:
        raise BuildError(f"{source / 'config.json'} has no {absent[0]}.")
    if codegen.get("tie_word_embeddings"):
        raise BuildError(f"{source / 'config.json'} has tie_word_embeddings true; CodeGen's output matrix has to be its own.")
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
            f"n_head has to be a multiple of {_GROUPS}, and n_embd one of n_head."
        )
    if rotary % 2 or rotary > hidden // heads:
        raise BuildError(f"{source / 'config.json'} has rotary_dim {rotary}; an even number up to {hidden // heads} is needed.")


def _common_dtype(source: Path, weights: Mapping[str, StoredTensor]) -> str:
    found = sorted({tensor.dtype for tensor in weights.values()})
    allowed = [dtype.value for dtype in DType]
    if len(found) > 1 or found[0] not in allowed:
        raise BuildError(f"The weights of {source} are {' and '.join(found)}; choose one type with --dtype {'|'.join(allowed)}.")
    return found[0]


def _tokenizer_files(source: Path) -> list[Path]:
    there = [source / name for name in _COPIED if (source / name).is_file()]
    names = {path.name for path in there}
    if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= names:
        raise BuildError(f"{source} has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt is there.")
    return there


def _each(weights: Mapping[str, StoredTensor]) -> Iterator[tuple[str, Tensor]]:
    """The tensors, file by file; of a file's pages only those are read that are used."""
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


def _converted(name: str, tensor: Tensor, hidden: int) -> Iterator[tuple[str, Tensor]]:
    prefix, qkv, suffix = name.partition("qkv_proj")
    if not qkv:
        yield name, tensor
        return
    groups = tensor.view(_GROUPS, 3, hidden // _GROUPS, hidden)
    for place, letter in enumerate("qvk"):
        yield f"{prefix}{letter}_proj{suffix}", groups[:, place].reshape(hidden, hidden)


@dataclass(frozen=True, slots=True)
class _Place:
    file: Path
    offset: int


class _Output:
    """Safetensors files of known content, written tensor by tensor in any order; the library has no such writer."""

    def __init__(self, folder: Path, shapes: Mapping[str, Shape], dtype: str, shard_bytes: int, report: Report) -> None:
        self._folder, self._dtype, self._report = folder, dtype, report
        self._bytes = {name: math.prod(shape) * ITEM_BYTES[dtype] for name, shape in shapes.items()}
        self._total, self._done = sum(self._bytes.values()), 0
        self._places: dict[str, _Place] = {}
        self._waiting = set(shapes)
        shards = _split(self._bytes, shard_bytes)
        for number, names in enumerate(shards, start=1):
            file = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
            self._reserve(folder / file, {name: shapes[name] for name in names})

    def write(self, name: str, tensor: Tensor) -> None:
        """Raises BuildError if a number is not finite, or is not in the type that is written."""
        import torch

        converted = tensor.to(getattr(torch, self._dtype)).contiguous()
        if not torch.isfinite(converted).all():
            raise BuildError(f"{name} holds a number that is not finite as {self._dtype}.")
        place = self._places[name]
        with place.file.open("r+b") as file:
            file.seek(place.offset)
            file.write(converted.reshape(-1).view(torch.uint8).numpy().data)
        self._waiting.remove(name)
        self._done += self._bytes[name]
        self._report(self._done, self._total)

    def finish(self) -> None:
        """Writes the index, if there are several files."""
        assert not self._waiting, self._waiting
        files = {name: place.file.name for name, place in self._places.items()}
        if len(set(files.values())) > 1:
            index = {"metadata": {"total_size": self._total}, "weight_map": files}
            (self._folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    def _reserve(self, path: Path, shapes: Mapping[str, Shape]) -> None:
        """Makes a file with its header and space for the tensors, so that a full disk is found out at the start."""
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name, shape in shapes.items():
            begin, end = end, end + self._bytes[name]
            code = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}[self._dtype]
            header[name] = {"dtype": code, "shape": shape, "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.flush()
            os.posix_fallocate(file.fileno(), 0, 8 + len(text) + end)
        self._places |= {name: _Place(path, 8 + len(text) + header[name]["data_offsets"][0]) for name in shapes}


def _split(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Names in order, cut into files of at most limit bytes; a larger tensor has one to itself."""
    files: list[list[str]] = [[]]
    room = limit
    for name, size in sizes.items():
        if files[-1] and size > room:
            files.append([])
            room = limit
        files[-1].append(name)
        room -= size
    return files


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
