"""Downloads against a real web server: resumed, verified, and never taken for whole before they are."""

from __future__ import annotations

import hashlib
import io
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from codecascade_build.errors import BuildError
from codecascade_build.fetch.download import Downloader, RemoteFile, SourceFailed
from codecascade_build.progress import Progress
from rich.console import Console

from tests.unit.build.file_server import FileServer, file_server

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        server.files["/weights.gguf"] = CONTENT
        yield server


@pytest.fixture
def downloader() -> Downloader:
    return Downloader(urllib.request.build_opener(), Progress(Console(file=io.StringIO())), pause=lambda seconds: None)


def remote(server: FileServer, sha256: str | None = SHA256, size: int | None = len(CONTENT)) -> RemoteFile:
    return RemoteFile(f"{server.url}/weights.gguf", "weights.gguf", sha256, size)


def test_a_download_arrives_whole_and_leaves_nothing_else(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    path = downloader.download(remote(server), tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_a_download_needs_neither_hash_nor_size(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    assert downloader.download(remote(server, None, None), tmp_path).read_bytes() == CONTENT


def test_what_is_there_is_not_downloaded_again(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    downloader.download(remote(server), tmp_path)
    downloader.download(remote(server), tmp_path)
    assert len(server.asked) == 1


def test_an_interrupted_download_goes_on_where_it_stopped(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    (tmp_path / "weights.gguf.part").write_bytes(CONTENT[:1000])
    assert downloader.download(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/weights.gguf", "bytes=1000-")]


def test_a_broken_connection_is_taken_up_again(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    server.cut_after = [300_000, 200_000]
    assert downloader.download(remote(server), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, "bytes=300000-", "bytes=500000-"]


def test_an_answer_that_breaks_off_in_its_middle_is_taken_up_again(
    server: FileServer, downloader: Downloader, tmp_path: Path
) -> None:
    server.break_after = 300_000
    assert downloader.download(remote(server), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, "bytes=300000-"]


def test_a_connection_that_always_breaks_is_given_up_and_what_came_is_kept(
    server: FileServer, downloader: Downloader, tmp_path: Path
) -> None:
    server.cut_after = [1000] + 10 * [0]
    with pytest.raises(SourceFailed, match="the connection was closed early, 4 times in a row"):
        downloader.download(remote(server), tmp_path)
    assert not (tmp_path / "weights.gguf").exists()
    assert (tmp_path / "weights.gguf.part").read_bytes() == CONTENT[:1000]


def test_a_server_that_cannot_resume_sends_the_file_from_its_beginning(
    server: FileServer, downloader: Downloader, tmp_path: Path
) -> None:
    server.resumes = False
    (tmp_path / "weights.gguf.part").write_bytes(CONTENT[:1000])
    assert downloader.download(remote(server, None, None), tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_already_complete_only_gets_its_name(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    (tmp_path / "weights.gguf.part").write_bytes(CONTENT)
    assert downloader.download(remote(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("leftover", [b"of another file", CONTENT + b"and more"], ids=["other", "longer"])
def test_a_part_of_another_file_is_thrown_away(
    leftover: bytes, server: FileServer, downloader: Downloader, tmp_path: Path
) -> None:
    (tmp_path / "weights.gguf.part").write_bytes(leftover)
    assert downloader.download(remote(server), tmp_path).read_bytes() == CONTENT


def test_a_file_with_the_wrong_hash_is_never_used(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match=f"it delivered a file with SHA-256 {SHA256}, expected {'0' * 64}"):
        downloader.download(remote(server, sha256="0" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_wrong_size_is_refused_before_it_is_downloaded(
    server: FileServer, downloader: Downloader, tmp_path: Path
) -> None:
    with pytest.raises(SourceFailed, match=f"it offers a file of {len(CONTENT)} bytes, expected 7"):
        downloader.download(remote(server, size=7), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_not_asked_again(status: int, server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    server.status = status
    with pytest.raises(SourceFailed, match=f"HTTP {status}"):
        downloader.download(remote(server), tmp_path)
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    server.status = 503
    with pytest.raises(SourceFailed, match="HTTP 503 Service Unavailable, 4 times in a row"):
        downloader.download(remote(server), tmp_path)


def test_a_source_that_cannot_be_reached_fails_at_once(downloader: Downloader, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/weights.gguf"
        with pytest.raises(SourceFailed, match="Connection refused"):
            downloader.download(RemoteFile(url, "weights.gguf"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_fit_is_refused_before_it_is_downloaded(
    server: FileServer, downloader: Downloader, tmp_path: Path
) -> None:
    server.lie = 10**18
    with pytest.raises(BuildError, match=r"There is no space left for .*weights.gguf.part \(1,000,000,000,000 MB are needed"):
        downloader.download(remote(server, None, None), tmp_path)


def test_a_disk_that_fills_up_is_named(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    (tmp_path / "weights.gguf.part").symlink_to("/dev/full")
    with pytest.raises(BuildError, match=r"There is no space left for .*weights.gguf.part; make room or set CODECASCADE_CACHE"):
        downloader.download(remote(server), tmp_path)


def test_a_folder_that_cannot_be_made_is_named(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(BuildError, match=r"cache/weights.gguf.part cannot be written"):
        downloader.download(remote(server), tmp_path / "cache")


def test_two_downloads_of_one_file_share_the_work(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    threads = [threading.Thread(target=downloader.download, args=(remote(server), tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["weights.gguf"]
