"""Imports point one way: codecascade_client → codecascade → standard library, numpy."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import codecascade
import pytest

PACKAGE = Path(codecascade.__file__).parent
OPTIONAL = {
    "llama_cpp.py": {"xllamacpp"},
    "llm_api.py": {"tensorrt_llm"},
    "remote.py": {"tritonclient"},
    "tokenizer.py": {"transformers"},
}
STANDARD = set(sys.stdlib_module_names) | {"numpy", "codecascade"}


def imported(path: Path) -> Iterator[str]:
    """Top-level names of the modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            yield (node.module or "").split(".")[0]


def foreign(path: Path) -> set[str]:
    return set(imported(path)) - STANDARD


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_needs_the_standard_library_and_numpy_alone(path: Path):
    allowed = OPTIONAL.get(path.name, set())
    if path.parent.name == "triton":
        allowed = allowed | {"triton_python_backend_utils"}
    assert foreign(path) <= allowed


def test_nothing_large_is_imported_before_it_is_used():
    """What the CPU tiers and the client import needs neither transformers nor torch nor TensorRT-LLM."""
    modules = sorted(f"codecascade.{path.stem}" for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "tokenizer"))
    program = f"import sys; import {', '.join(modules)}; print(*{{'transformers', 'torch', 'tensorrt_llm'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "\n"
