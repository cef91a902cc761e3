"""Names, shapes and types of a checkpoint's tensors, without loading any, and whether its files are whole.

safetensors and torch read the files. They are the extra `conversion`, which `make conversion` adds.
"""

from __future__ import annotations

import json
import sys
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

from codecascade_build.errors import BuildError

Shape = tuple[int, ...]

# In the order in which transformers looks for them.
_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_TORCH_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "I8": "int8"}
"""Those of safetensors' types that a checkpoint's weights have; others keep their name."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor is and what it looks like."""

    file: Path
    dtype: str
    """As torch calls it."""
    shape: Shape


def need_libraries() -> None:
    """Raises BuildError if this Python cannot read weights."""
    missing = [name for name in ("safetensors", "torch") if find_spec(name) is None]
    if missing:
        raise BuildError(f"{sys.executable} has no {' and no '.join(missing)} to read weights with: run `make conversion`.")


def read_checkpoint(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a checkpoint by name. Raises BuildError if a file is missing, truncated or at odds with the index."""
    need_libraries()
    name = next((name for name in _FILES if (folder / name).is_file()), None)
    if name is None:
        raise BuildError(f"The checkpoint {folder} has no weights: none of {', '.join(_FILES)} is there.")
    if not name.endswith(".index.json"):
        return read_shard(folder / name)
    return _read_sharded(folder, folder / name)


def read_shard(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file. Raises BuildError."""
    try:
        with path.open("rb") as file:
            return _read_safetensors(path) if path.suffix == ".safetensors" else _read_bin(path, file)
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}.") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises BuildError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise BuildError(f"{path} is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise BuildError(f"{path} holds no JSON object.")
    return document


def _read_sharded(folder: Path, index: Path) -> dict[str, StoredTensor]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise BuildError(f"{index} has no weight_map from tensors to files.")
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard:
            raise BuildError(f"{index} names {shard!r}, which is not a file beside it.")
        if not (folder / shard).is_file():
            raise BuildError(f"The checkpoint {folder} lacks {shard}, which its index names.")
        for name, tensor in read_shard(folder / shard).items():
            if weight_map.get(name) != shard:
                raise BuildError(f"{folder / shard} holds {name}, which the index puts in {weight_map.get(name, 'no file')}.")
            tensors[name] = tensor
    absent = [name for name in weight_map if name not in tensors]
    if absent:
        raise BuildError(f"{folder / weight_map[absent[0]]} does not hold {absent[0]}, which the index puts there.")
    return tensors


def _read_safetensors(path: Path) -> dict[str, StoredTensor]:
    from safetensors import SafetensorError, safe_open

    tensors = {}
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118  (it is no dictionary)
                entry = file.get_slice(name)
                dtype = _TORCH_NAMES.get(entry.get_dtype(), entry.get_dtype())
                tensors[name] = StoredTensor(path, dtype, tuple(entry.get_shape()))
    except SafetensorError as error:
        raise BuildError(f"{path} is truncated, damaged or no safetensors file: {error}.") from error
    return tensors


def _read_bin(path: Path, file: IO[bytes]) -> dict[str, StoredTensor]:
    import torch

    try:
        with zipfile.ZipFile(file) as archive:
            stored = sum(member.file_size for member in archive.infolist() if "/data/" in member.filename)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except zipfile.BadZipFile as error:
        raise BuildError(f"{path} is truncated, or was not written by torch.save of PyTorch 1.6 or newer: {error}.") from error
    except UnpicklingError as error:
        raise BuildError(f"{path} holds something else than tensors.") from error
    except RuntimeError as error:
        raise BuildError(f"{path} is damaged, or was not written by torch.save.") from error
    if not isinstance(state, dict):
        raise BuildError(f"{path} holds no dictionary of tensors.")
    tensors = {}
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            raise BuildError(f"{path} holds {name}, which is no tensor.")
        tensors[name] = StoredTensor(path, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in state.values()}
    if sum(storages.values()) != stored:  # torch reads on behind the end of a storage that is too short
        raise BuildError(f"{path} does not hold all of its tensors: the file is damaged.")
    return tensors
