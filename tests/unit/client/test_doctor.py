"""The doctor, in a folder that looks like a checkout."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import pytest
from codecascade_client.cli.doctor import examine
from codecascade_client.settings import Settings

from tests.unit.client.fake_cascade import Answer, serving
from tests.unit.client.sums_deployment import write_deployment

NOBODY = Settings(url="127.0.0.1:1")
WEIGHTS = b"weights"
SERVER = f"var/triton-1-python{sysconfig.get_python_version()}/pytriton/tritonserver/bin/tritonserver"
SHA256 = "0" * 64
RECIPE = f"""
format = 1
family = "tiny"
[[tiers]]
name = "tiny-1"
[tiers.llama_cpp.weights]
file = "tiny.gguf"
bytes = {len(WEIGHTS)}
sha256 = "{SHA256}"
[[tiers]]
name = "tiny-70-that-only-a-gpu-runs"
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Whole: a server for this Python, and weights whose hash was checked."""
    monkeypatch.delenv("CODECASCADE_CACHE", raising=False)
    monkeypatch.delenv("CODECASCADE_WEIGHTS", raising=False)
    written = {
        SERVER: b"",
        "build/families/tiny.toml": RECIPE.encode(),
        "var/cache/weights/tiny.gguf": WEIGHTS,
    }
    for name, content in written.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    path = tmp_path / "var/cache/weights/tiny.gguf"
    stat = path.stat()
    note = {"path": str(path.resolve()), "bytes": stat.st_size, "inode": stat.st_ino, "mtime_ns": stat.st_mtime_ns}
    (tmp_path / "var/cache/checked").mkdir()
    (tmp_path / f"var/cache/checked/{SHA256}.json").write_text(json.dumps(note))
    return tmp_path


async def said(capsys: pytest.CaptureFixture[str], checkout: Path, settings: Settings = NOBODY) -> tuple[bool, str]:
    holds = await examine(settings, checkout)
    return holds, " ".join(capsys.readouterr().out.split())


async def test_a_whole_checkout_can_run(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    holds, words = await said(capsys, checkout)
    assert holds
    assert words.endswith("The CPU deployment can run here.")
    assert "SHA-256 verified" in words
    assert "no server answers at 127.0.0.1:1: is it running? (`make serve` starts one)" in words


async def test_a_missing_triton_is_named(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / SERVER).unlink()
    holds, words = await said(capsys, checkout)
    assert not holds
    assert words.endswith("The CPU deployment cannot run here: see Triton server.")


async def test_missing_weights_are_named_with_where_they_were_looked_for(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "var/cache/weights/tiny.gguf").unlink()
    holds, words = await said(capsys, checkout)
    assert not holds
    assert words.endswith("The CPU deployment cannot run here: see weights of tiny-1.")
    assert "tiny.gguf is not in" in words


async def test_a_file_that_is_not_whole_is_not_taken_for_weights(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "var/cache/weights/tiny.gguf").write_bytes(WEIGHTS[:-1])
    holds, words = await said(capsys, checkout)
    assert not holds
    assert "has 6 bytes, not 7" in words


async def test_weights_that_changed_since_they_were_hashed_are_not_called_verified(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkout / "var/cache/weights/tiny.gguf"
    path.unlink()
    path.with_name("other").write_bytes(b"")  # takes the place on the disk
    path.write_bytes(WEIGHTS[::-1])
    _, words = await said(capsys, checkout)
    assert "SHA-256 not verified yet" in words


async def test_weights_in_the_users_own_folder_count(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = checkout / "mine"
    mine.mkdir()
    (checkout / "var/cache/weights/tiny.gguf").rename(mine / "tiny.gguf")
    monkeypatch.setenv("CODECASCADE_WEIGHTS", str(mine))
    assert (await said(capsys, checkout))[0]


async def test_a_server_is_shown_with_its_models(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda _: Answer()) as server:
        _, words = await said(capsys, checkout, Settings(url=server.address))
    assert f"{server.address}: cascade ready, small not ready" in words


async def test_the_modules_that_the_sandbox_offers_are_listed_and_tried(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = write_deployment(checkout)
    written = json.loads(deployment.read_text())
    rendered = checkout / "var/model_repository/sums.json"
    rendered.parent.mkdir()
    rendered.write_text(json.dumps({**written, "sandbox_modules": ["numpy"]}))
    holds, words = await said(capsys, checkout)
    assert holds
    assert "packages (sandbox_modules of the deployment): numpy" in words
    rendered.write_text(json.dumps({**written, "sandbox_modules": ["numpy", "no_such_package"]}))
    holds, words = await said(capsys, checkout)
    assert not holds
    assert words.endswith("The CPU deployment cannot run here: see sandbox modules.")
    assert "no_such_package fails: sandbox module 'no_such_package' cannot be offered" in words
    rendered.write_text("{")
    holds, words = await said(capsys, checkout)
    assert not holds
    assert "cannot be used: Expecting property name" in words
