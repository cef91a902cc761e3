"""Wheels on a file server, listed as a package index lists them."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Mapping

from codecascade_build.fetch.package_index import Wheel

from tests.unit.build.file_server import FileServer


def publish(server: FileServer, package: str, version: str, files: Mapping[str, bytes]) -> Wheel:
    """Offers one wheel under /simple/."""
    name = package.replace("-", "_")
    metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode()
    info = f"{name}-{version}.dist-info"
    tags = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content = _zip({**files, f"{info}/METADATA": metadata, f"{info}/WHEEL": tags, f"{info}/RECORD": b""})
    path = f"/files/{name}-{version}-py3-none-any.whl"
    server.files[path] = content
    server.files[f"{path}.metadata"] = metadata
    link = f'<a href="{path}#sha256={_sha256(content)}" data-core-metadata="sha256={_sha256(metadata)}">{path[7:]}</a>'
    server.files[f"/simple/{package}/"] = f"<!DOCTYPE html><html><body>{link}</body></html>".encode()
    return Wheel(package, version, _sha256(content))


def pip_settings(index_url: str) -> dict[str, str]:
    """The variables that make a package index pip's only one, whatever this machine's pip is set up with."""
    return {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": f"{index_url}/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_RETRIES": "1",
    }


def _zip(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
