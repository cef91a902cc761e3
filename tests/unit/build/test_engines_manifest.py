"""An engine's manifest says what it was built for, and a server that is something else does not start it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from codecascade.errors import EngineError
from codecascade.tiers.trtllm.engine_manifest import (
    NAME,
    BuiltFile,
    EngineManifest,
    Machine,
    Source,
    check_engine,
    gpu_capabilities,
    manifest_text,
    read_manifest,
)

HERE = Machine(tensorrt_llm="1.2.1", tensorrt="10.14.1.48", sms=(90, 90))
ENGINE = EngineManifest(
    tier="tiny-1b",
    family="tiny",
    gpu="h100",
    sm=90,
    tensorrt_llm="1.2.1",
    tensorrt="10.14.1.48",
    tensor_parallel=2,
    dtype="float16",
    quantization="none",
    limits={"max_batch_size": 64},
    source=Source("someone/tiny", "main", "0123abc", {"model.safetensors": BuiltFile(3, "ab")}),
    files={"rank0.engine": BuiltFile(4, "cd"), "rank1.engine": BuiltFile(4, "ef")},
    commands=(("trtllm-build", "--workers", "2"),),
    built="2026-07-20T12:00:00Z",
    rebuild="make engines FAMILY=tiny TIER=tiny-1b GPU=h100",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ENGINE.files:
        (tmp_path / name).write_bytes(b"plan")
    (tmp_path / NAME).write_text(manifest_text(ENGINE))
    return tmp_path


def test_an_engine_runs_on_what_it_was_built_for(folder: Path) -> None:
    manifest = check_engine(folder, HERE)
    assert manifest.source == ENGINE.source
    assert manifest_text(manifest) == manifest_text(ENGINE)


REBUILD = "build it on this machine: make engines FAMILY=tiny TIER=tiny-1b GPU="


@pytest.mark.parametrize(
    ("here", "problem"),
    [
        (replace(HERE, tensorrt_llm="1.1.0"), f"with TensorRT-LLM 1.2.1, and this server has 1.1.0; {REBUILD}h100"),
        (replace(HERE, tensorrt="10.13.0.35"), f"with TensorRT 10.14.1.48, and this server has 10.13.0.35; {REBUILD}h100"),
        (replace(HERE, sms=(90, 86)), f"for h100 (SM 90), and it is given a GPU of SM 86; {REBUILD}<this machine's kind>"),
        (
            replace(HERE, sms=(90,)),
            "for a group of 2 GPU(s), and it is given 1; give it 2, or change tensor_parallel in the recipe of tiny "
            f"and {REBUILD}h100",
        ),
    ],
    ids=["other TensorRT-LLM", "other TensorRT", "other GPU", "other number of GPUs"],
)
def test_what_does_not_match_is_said_with_the_command_that_mends_it(folder: Path, here: Machine, problem: str) -> None:
    with pytest.raises(EngineError) as raised:
        check_engine(folder, here)
    assert str(raised.value) == f"The engine of tiny-1b in {folder} was built {problem}"


def test_an_engine_file_that_is_cut_short_is_not_loaded(folder: Path) -> None:
    (folder / "rank1.engine").write_bytes(b"pla")
    with pytest.raises(EngineError, match=r"rank1.engine has 3 bytes, and 4 bytes were built; build it on this machine: make"):
        check_engine(folder, HERE)
    (folder / "rank1.engine").unlink()
    with pytest.raises(EngineError, match=r"rank1.engine is missing, and 4 bytes were built"):
        check_engine(folder, HERE)


def test_a_folder_without_a_manifest_is_no_finished_engine(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"has no codecascade.json: it holds no engine that `make engines` finished"):
        read_manifest(tmp_path)


def test_a_manifest_that_is_cut_anywhere_is_refused(folder: Path) -> None:
    text = manifest_text(ENGINE)
    for length in range(len(text) - 2):
        (folder / NAME).write_text(text[:length])
        with pytest.raises(EngineError, match="cannot be read"):
            read_manifest(folder)


def changed(**values: Any) -> str:
    return json.dumps(json.loads(manifest_text(ENGINE)) | values)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (changed(format=2), "its format is 2, this version reads format 1"),
        ("[]", "list indices"),
        ("{}", "'format' is missing"),
        (changed(sm="90"), "sm is '90', must be an integer"),
        (changed(files={}), "it lists no file of the engine"),
        (changed(files={"rank0.engine": {"bytes": 4}}), "'sha256' is missing"),
    ],
)
def test_a_manifest_of_another_form_is_refused(folder: Path, text: str, what: str) -> None:
    (folder / NAME).write_text(text)
    with pytest.raises(EngineError, match="is invalid") as raised:
        read_manifest(folder)
    assert what in str(raised.value)


def test_compute_capabilities_are_read_in_the_order_of_the_ids() -> None:
    listing = "0, 9.0\n1, 8.6\n10, 12.0\n"
    assert gpu_capabilities(listing, (1, 0, 10)) == (86, 90, 120)
    with pytest.raises(EngineError, match=r"no GPU with the id 2; it has 0, 1, 10\."):
        gpu_capabilities(listing, (2,))
    with pytest.raises(EngineError, match=r"no GPU with the id 0; nvidia-smi shows none\."):
        gpu_capabilities("No devices were found\n", (0,))
