"""What a checkpoint's files hold, tensor by tensor, without loading any: names, shapes, types, and whether the files are whole.

Reads the headers of safetensors files and the tables of contents of PyTorch's .bin files; needs neither library.
"""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from codecascade_build.errors import BuildError

Shape = tuple[int, ...]

# In the order in which transformers looks for them.
_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_SAFETENSORS_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
_STORAGE_TYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
ITEM_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
_HEADER_LIMIT = 100_000_000  # bytes, as the safetensors library has it


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor is and what it looks like. dtype: as torch calls it."""

    file: Path
    dtype: str
    shape: Shape


def read_checkpoint(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a checkpoint by name. Raises BuildError if a file is missing, truncated or at odds with the index."""
    name = next((name for name in _FILES if (folder / name).is_file()), None)
    if name is None:
        raise BuildError(f"The checkpoint {folder} has no weights: none of {', '.join(_FILES)} is there.")
    if not name.endswith(".index.json"):
        return read_shard(folder / name)
    return _read_sharded(folder, folder / name)


def read_shard(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file. Raises BuildError."""
    try:
        return _read_safetensors(path) if path.suffix == ".safetensors" else _read_bin(path)
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
    size = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if size < 8 or header_bytes > min(size - 8, _HEADER_LIMIT):
            raise BuildError(f"{path} is truncated or no safetensors file: {size} bytes do not hold its header.")
        try:
            header = json.loads(file.read(header_bytes))
            entries = {name: _safetensors_entry(path, entry) for name, entry in header.items() if name != "__metadata__"}
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise BuildError(f"{path} has no safetensors header.") from error
    end = 0
    for name, (begin, stop, tensor) in sorted(entries.items(), key=lambda item: item[1][:2]):
        if begin != end or stop - begin != _bytes(tensor.shape, tensor.dtype):
            raise BuildError(f"{path} has a wrong header: the place of {name} does not fit its shape.")
        end = stop
    if size != 8 + header_bytes + end:
        raise BuildError(f"{path} has {size} bytes, its header says {8 + header_bytes + end}: the file is truncated or damaged.")
    return {name: tensor for name, (_, _, tensor) in entries.items()}


def _safetensors_entry(path: Path, entry: Mapping[str, Any]) -> tuple[int, int, StoredTensor]:
    begin, stop = entry["data_offsets"]
    return int(begin), int(stop), StoredTensor(path, _SAFETENSORS_TYPES[entry["dtype"]], tuple(map(int, entry["shape"])))


def _read_bin(path: Path) -> dict[str, StoredTensor]:
    """A zip archive: a pickle of the tensors' places, and their storages as members without compression."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member.file_size for member in archive.infolist()}
            table = next((name for name in members if name.endswith("/data.pkl")), None)
            if table is None:
                raise BuildError(f"{path} is a zip archive, but not one that torch.save wrote.")
            with archive.open(table) as file:
                content = _TableOfContents(file).load()
    except (zipfile.BadZipFile, EOFError) as error:
        raise BuildError(f"{path} is truncated, or was not written by torch.save of PyTorch 1.6 or newer: {error}.") from error
    except (pickle.UnpicklingError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise BuildError(f"{path} holds something else than tensors: {error}.") from error
    if not isinstance(content, dict):
        raise BuildError(f"{path} holds no dictionary of tensors.")
    folder = table.removesuffix("data.pkl")
    for name, tensor in content.items():
        if not isinstance(tensor, _Listed):
            raise BuildError(f"{path} holds {name}, which is no tensor.")
        stored = members.get(f"{folder}data/{tensor.storage.key}")
        if stored != _bytes((tensor.storage.items,), tensor.storage.dtype):
            raise BuildError(f"{path} does not hold all of {name}: the file is damaged.")
    return {name: StoredTensor(path, tensor.storage.dtype, tensor.shape) for name, tensor in content.items()}


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: str
    items: int


@dataclass(frozen=True, slots=True)
class _Listed:
    storage: _Storage
    shape: Shape


class _TableOfContents(pickle.Unpickler):
    """Reads the pickle of a state dict. Knows tensors and dictionaries; anything else is refused before it is made."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, *_: _Listed(storage, tuple(shape))
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in _STORAGE_TYPES:
            return _STORAGE_TYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, items = pid
        return _Storage(key, dtype, items)


def _bytes(shape: Shape, dtype: str) -> int:
    return math.prod(shape) * ITEM_BYTES[dtype]
