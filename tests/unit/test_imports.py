"""Imports point one way: codecascade_client → codecascade → few packages. Rules are by folder, the longest wins."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import codecascade
import codecascade_client
import pytest

from tests.unit.client.fake_cascade import Answer, serving, trace

CORE = Path(codecascade.__file__).parent
CLIENT = Path(codecascade_client.__file__).parent

# Packages besides the standard library that a folder or file of `codecascade` may import, wherever in the file.
CORE_PACKAGES: Mapping[str, set[str]] = {
    "": {"numpy"},
    "sandbox": set(),
    "supervision": set(),
    "texts/answers.py": {"markdown_it"},
    "sandbox/pool.py": {"numpy"},
    "tiers/llama_cpp.py": {"xllamacpp"},
    "tiers/trtllm": {"numpy", "tensorrt_llm", "transformers"},
    "triton": {"numpy", "triton_python_backend_utils"},
    "triton/calls/remote.py": {"numpy", "tritonclient"},
    "triton/calls/tls.py": {"grpc"},
    "triton/spans.py": {"opentelemetry"},
    "triton/settings.py": {"pydantic", "pydantic_settings"},
}
# Folders and files of `codecascade` that a folder may import, itself apart.
CORE_FOLDERS: Mapping[str, set[str]] = {
    "": {"texts"},
    "texts": {"types.py", "errors.py", "sandbox/modules.py", "sandbox/outputs.py"},
    "sandbox": {"sandbox/zygote", "types.py", "errors.py"},
    "sandbox/zygote": set(),
    "supervision": {"triton/calls/names.py"},
    "tiers": {"", "texts"},
    "triton": {"", "texts", "sandbox", "tiers"},
}
# The same of `codecascade_client`: the order in which data flows. The modules beside the folders import none of them.
CLIENT_FOLDERS: Mapping[str, set[str]] = {
    "": set(),
    "datasets": {""},
    "recording": {"", "datasets"},
    "replay": {"", "datasets", "recording"},
    "evidence": {"", "recording", "replay"},
    "search": {"", "datasets", "recording", "replay"},
    "report": {"", "datasets", "recording", "replay", "evidence", "search"},
    "live": {"", "datasets", "recording"},
    "gateway": {""},
    "cli": {"", "gateway", "datasets", "recording", "replay", "evidence", "search", "report", "live"},
}
# What only the extras `offline` and `gateway` install.
OFFLINE = {"jinja2", "matplotlib", "pyarrow"}
GATEWAY = {"fastapi", "starlette", "uvicorn"}


def files(root: Path) -> list[Path]:
    return sorted(path.relative_to(root) for path in root.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Dotted names of the modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            assert node.module
            yield node.module


def rule_of(path: Path, rules: Mapping[str, set[str]]) -> tuple[str, set[str]]:
    """The longest folder or file that has a rule and holds `path`."""
    place = next(str(place) for place in (path, *path.parents) if str(place).removeprefix(".") in rules).removeprefix(".")
    return place, rules[place]


def foreign(path: Path, own: str) -> set[str]:
    tops = {name.partition(".")[0] for name in imported(path)}
    return tops - set(sys.stdlib_module_names) - {own}


@pytest.mark.parametrize("path", files(CORE), ids=str)
def test_the_core_imports_the_packages_of_its_folder(path: Path) -> None:
    assert foreign(CORE / path, "codecascade") <= rule_of(path, CORE_PACKAGES)[1]


def check_folders(root: Path, path: Path, rules: Mapping[str, set[str]]) -> None:
    own, allowed = rule_of(path, rules)
    for module in imported(root / path):
        if module.partition(".")[0] == root.name:
            target = Path(*module.split(".")[1:])
            target = target.with_suffix(".py") if (root / target).with_suffix(".py").is_file() else target / "__init__.py"
            assert rule_of(target, rules)[0] in {own, *allowed} or str(target) in allowed, f"{path} imports {module}"


@pytest.mark.parametrize("path", files(CORE), ids=str)
def test_folders_of_the_core_import_one_way(path: Path) -> None:
    check_folders(CORE, path, CORE_FOLDERS)


@pytest.mark.parametrize("path", files(CLIENT), ids=str)
def test_folders_of_the_client_import_one_way(path: Path) -> None:
    check_folders(CLIENT, path, CLIENT_FOLDERS)


def run_without(packages: set[str], program: str) -> str:
    """Standard output of a program in a Python that has none of the packages."""
    absent = "; ".join(f"sys.modules[{package!r}] = None" for package in sorted(packages))
    done = subprocess.run([sys.executable, "-c", f"import sys; {absent}\n{program}"], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout


def test_nothing_large_is_imported_before_it_is_used() -> None:
    """What the CPU tiers and the client import needs neither transformers nor torch nor TensorRT-LLM."""
    modules = [".".join(path.with_suffix("").parts) for path in files(CORE)]
    light = [m for m in modules if not m.startswith(("triton", "sandbox")) and not m.endswith(("__init__", "tokenizer"))]
    run_without({"transformers", "torch", "tensorrt_llm"}, f"import {', '.join(f'codecascade.{module}' for module in light)}")


def test_remote_calls_import_without_triton_and_without_its_client() -> None:
    run_without({"triton_python_backend_utils", "tritonclient", "grpc"}, "import codecascade.triton.calls.remote")


def run_command(*arguments: str) -> str:
    """Standard output of the command line in a Python without the extras `offline` and `gateway`."""
    program = f"sys.argv = {['codecascade', *arguments]}\nfrom codecascade_client.cli.main import main\nmain()"
    return run_without(OFFLINE | GATEWAY, program)


def test_the_client_asks_a_server_without_the_extra_offline(tmp_path: Path) -> None:
    assert "complete" in run_command("--help")
    assert "record" not in run_command("--help")
    (tmp_path / "prompt.py").write_text("def f():\n")
    with serving(lambda _: Answer("def f():\n    return 1\n", trace=trace({}))) as server:
        out = run_command("complete", "--prompt-file", str(tmp_path / "prompt.py"), "--url", server.address)
    assert out == "def f():\n    return 1\n"


def test_only_the_report_needs_matplotlib_and_jinja2() -> None:
    run_without(OFFLINE - {"pyarrow"}, "import codecascade_client.cli.offline")
