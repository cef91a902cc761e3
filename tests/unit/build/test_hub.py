"""Downloads from a Hugging Face hub: a local web server that answers as one does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from codecascade_build.fetch.failures import SourceFailed
from codecascade_build.fetch.hub import download_from_hub

from tests.unit.build.file_server import FileServer, file_server

CHUNK = 10 << 20  # huggingface_hub keeps whole chunks
CONTENT = bytes(range(256)) * (CHUNK // 100)
PATH = "/Tiny/Tiny-GGUF/resolve/main/tiny.gguf"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        server.files[PATH] = CONTENT
        yield server


def download(endpoint: str, folder: Path) -> Path:
    return download_from_hub(endpoint, "Tiny/Tiny-GGUF", "main", "tiny.gguf", folder)


def ranges(server: FileServer) -> list[str | None]:
    """The Range of every request for the content so far."""
    return [asked for _, asked in server.asked]


def test_a_file_arrives_whole(server: FileServer, tmp_path: Path) -> None:
    assert download(server.url, tmp_path / "hub") == tmp_path / "hub" / "tiny.gguf"
    assert (tmp_path / "hub" / "tiny.gguf").read_bytes() == CONTENT


def test_an_answer_that_ends_early_is_taken_up_where_it_ended(server: FileServer, tmp_path: Path) -> None:
    server.cut_after = [CHUNK + 1000, CHUNK + 1000]
    assert download(server.url, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={CHUNK}-", f"bytes={2 * CHUNK}-"]


def test_a_later_run_goes_on_where_an_earlier_one_was_given_up(server: FileServer, tmp_path: Path) -> None:
    server.cut_after = [CHUNK + 1000, 0, 0, 0]
    with pytest.raises(SourceFailed):
        download(server.url, tmp_path)
    server.asked.clear()
    assert download(server.url, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [f"bytes={CHUNK}-"]


def test_a_file_that_only_lacked_its_name_is_downloaded_again(server: FileServer, tmp_path: Path) -> None:
    server.cut_after = [CHUNK + 1000, 0, 0, 0]
    with pytest.raises(SourceFailed):
        download(server.url, tmp_path)
    (unfinished,) = tmp_path.rglob("*.incomplete")
    unfinished.write_bytes(CONTENT)
    assert download(server.url, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_a_reason_to_go_elsewhere(status: int, server: FileServer, tmp_path: Path) -> None:
    server.status = status
    with pytest.raises(SourceFailed, match=f"^answered HTTP {status} "):
        download(server.url, tmp_path)


def test_a_hub_that_cannot_be_reached_is_a_reason_to_go_elsewhere(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(SourceFailed, match=r"^cannot be reached \(Connection refused\)$"):
            download(f"http://127.0.0.1:{nobody.getsockname()[1]}", tmp_path)


def test_a_folder_that_cannot_be_made_is_the_disk_s_error(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        download(server.url, tmp_path / "file")
