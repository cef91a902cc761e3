"""Whether the cascade behind the gateway is well, as its supervisor says. Triton itself does not notice a dead process."""

from __future__ import annotations

import asyncio
import urllib.request

_TIMEOUT_S = 3.0  # probes of the gateway wait five


async def is_ready(url: str) -> bool:
    """Whether this address answers 200: False also if it cannot be reached."""
    return await asyncio.to_thread(_answers, url)


def _answers(url: str) -> bool:
    try:
        with _DIRECT.open(url, timeout=_TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except OSError:  # no connection, or another status
        return False


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is a neighbour: a proxy would not know it
