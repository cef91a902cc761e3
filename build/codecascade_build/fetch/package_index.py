"""Wheels of the package index that pip is set up with on this machine: where they are, without installing or importing them."""

from __future__ import annotations

import ast
import functools
import os
import re
import ssl
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecascade_build.fetch.download import RemoteFile, SourceFailed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_RESOLVE_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class PipSettings:
    """Where pip looks for packages here, and how it gets there. Empty: pip's own defaults."""

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    cert: str | None = None
    proxy: str | None = None


@functools.cache
def pip_settings() -> PipSettings:
    """What `pip config list` says: configuration files and PIP_* variables."""
    argv = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return parse_pip_settings(done.stdout)


def parse_pip_settings(listing: str) -> PipSettings:
    """The variables win over the sections of `install`, which win over the global ones."""
    values: dict[str, str] = {}
    for section in ("global.", "install.", ":env:."):
        for line in listing.splitlines():
            key, separator, value = line.partition("=")
            if separator and key.startswith(section):
                values[key[len(section) :]] = str(ast.literal_eval(value))
    return PipSettings(
        index_url=values.get("index-url"),
        extra_index_urls=tuple(values.get("extra-index-url", "").split()),
        find_links=tuple(values.get("find-links", "").split()),
        no_index=values.get("no-index", "").lower() in ("1", "true", "yes", "on"),
        cert=values.get("cert"),
        proxy=values.get("proxy"),
    )


def find_wheels(requirements: Sequence[str], settings: PipSettings) -> tuple[RemoteFile, ...]:
    """Address, size and hash of the wheel of each pinned requirement, in their order. Raises SourceFailed."""
    try:
        done = subprocess.run(
            resolve_argv(settings),
            input="\n".join(requirements),
            env=resolve_environ(os.environ, settings),
            capture_output=True,
            text=True,
            timeout=_RESOLVE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SourceFailed(f"it did not answer within {_RESOLVE_TIMEOUT_S} s") from error
    if done.returncode:
        raise SourceFailed(_reason(done.stderr))
    return parse_lock(done.stdout, requirements)


def resolve_argv(settings: PipSettings) -> list[str]:
    """uv reads the index's metadata alone, so that nothing is downloaded twice."""
    options = [f"--extra-index-url={url}" for url in settings.extra_index_urls]
    options += [f"--find-links={place}" for place in settings.find_links]
    if settings.index_url:
        options.append(f"--index-url={settings.index_url}")
    if settings.no_index:
        options.append("--no-index")
    return [
        *(sys.executable, "-m", "uv", "pip", "compile", "-", "--quiet", "--format=pylock.toml"),
        *("--no-deps", "--no-config", "--no-cache", "--only-binary=:all:", "--index-strategy=unsafe-best-match"),
        *options,
    ]


def resolve_environ(base: Mapping[str, str], settings: PipSettings) -> dict[str, str]:
    environ = dict(base)
    if settings.cert:
        environ["SSL_CERT_FILE"] = settings.cert
    if settings.proxy:
        environ |= {"HTTP_PROXY": settings.proxy, "HTTPS_PROXY": settings.proxy, "ALL_PROXY": settings.proxy}
    return environ


def parse_lock(text: str, requirements: Sequence[str]) -> tuple[RemoteFile, ...]:
    """The wheels of a pylock.toml. Raises SourceFailed if one of the requirements has none."""
    wheels = {(package["name"], package["version"]): package.get("wheels", ()) for package in tomllib.loads(text)["packages"]}
    found = []
    for requirement in requirements:
        name, _, version = requirement.partition("==")
        files = wheels.get((name, version), ())
        if not files:
            raise SourceFailed(f"it has no wheel of {requirement}")
        found.append(_remote_file(files[0]))
    return tuple(found)


def opener(settings: PipSettings) -> urllib.request.OpenerDirector:
    """Opens addresses as pip would: its certificates, its proxy and the passwords inside its index addresses."""
    from pip._vendor import certifi  # the roots that pip brings, for machines that have none of their own

    trust = ssl.create_default_context(cafile=settings.cert)
    trust.load_verify_locations(certifi.where())
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    for url in (settings.index_url, *settings.extra_index_urls):
        parts = urllib.parse.urlsplit(url or "")
        if parts.username:
            user, password = urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
            host = parts.netloc.rpartition("@")[2]
            passwords.add_password(None, f"{parts.scheme}://{host}/", user, password, is_authenticated=True)
    handlers: list[Any] = [urllib.request.HTTPSHandler(context=trust), urllib.request.HTTPBasicAuthHandler(passwords)]
    if settings.proxy:
        handlers.append(urllib.request.ProxyHandler({"http": settings.proxy, "https": settings.proxy}))
    return urllib.request.build_opener(*handlers)


def _reason(stderr: str) -> str:
    """What failed and, at the end of its chain of causes, why."""
    message = " ".join(re.sub(r"[^\S ]+|[│╰─▶×]", " ", stderr).split()).partition(" hint: ")[0]
    _, *causes = re.split(r" cause: | Caused by: ", message)
    return ": ".join(dict.fromkeys([causes[0], causes[-1]]) if causes else [message]).rstrip(".")


def _remote_file(wheel: Mapping[str, Any]) -> RemoteFile:
    url = wheel["url"] if "url" in wheel else Path(wheel["path"]).resolve().as_uri()
    parts = urllib.parse.urlsplit(url)
    if "@" in parts.netloc:
        url = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    name = wheel.get("name") or urllib.parse.unquote(parts.path.rpartition("/")[2])
    return RemoteFile(url, name, wheel.get("hashes", {}).get("sha256"), wheel.get("size"))
