"""One file from a Hugging Face hub or a mirror of it, by huggingface_hub. weights.py checks the hash."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from codecascade_build.fetch.failures import SourceFailed

_TRIES = 4
_REACH_TIMEOUT_S = 10


def download_from_hub(endpoint: str, repository: str, revision: str, file: str, folder: Path) -> Path:
    """folder/file, of unknown hash. An interrupted download goes on where it stopped, to 10 MB.

    On a terminal huggingface_hub shows a bar of its own.

    Remove `folder` when the file was taken out of it.
    Raises SourceFailed if the hub cannot deliver (the message goes on from the hub's name), OSError if the disk cannot
    take the file.
    """
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # Xet, the hub's newer protocol, starts again from the first byte
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # its warnings say that it tries again
    from huggingface_hub import hf_hub_download  # takes 0.3 s to import, and only a download needs it

    _reach(endpoint)
    for left in reversed(range(_TRIES)):
        try:
            return Path(hf_hub_download(repository, file, revision=revision, local_dir=folder, endpoint=endpoint))
        except OSError as error:  # everything that huggingface_hub raises for a hub is one, without a number
            if error.errno:
                raise
            if _status(error) == 416:  # the file was complete and only lacked its name, or it belongs to another one
                shutil.rmtree(folder)
            elif not _broke_off(error) or not left:
                raise SourceFailed(_reason(error)) from error
    raise SourceFailed(f"refused to send the rest of the file, {_TRIES} times in a row")


def _reach(endpoint: str) -> None:
    """huggingface_hub asks a hub that cannot be reached for 23 s. This asks once."""
    import requests

    try:
        requests.head(endpoint, timeout=_REACH_TIMEOUT_S)
    except OSError as error:
        raise SourceFailed(_reason(error)) from error


def _broke_off(error: OSError) -> bool:
    """The connection ended in the middle of the file: what came is kept, and the next try asks for the rest."""
    from requests.exceptions import ChunkedEncodingError

    return isinstance(error, ChunkedEncodingError)


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _reason(error: BaseException) -> str:
    """What the hub did, such as `answered HTTP 404 Not Found`. The innermost cause says it; the layers above only repeat it."""
    chain = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    for cause in chain:
        if status := _status(cause):
            return f"answered HTTP {status} {cause.response.reason}"  # type: ignore[attr-defined]
    if isinstance(chain[-1], OSError) and chain[-1].strerror:
        return f"cannot be reached ({chain[-1].strerror})"
    return f"failed: {chain[-1]}".partition("\n")[0].rstrip(".")
