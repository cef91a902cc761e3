"""Work that ends with the connection that asked for it, and streams of server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

_T = TypeVar("_T")
_QUIET_S = 15.0  # a proxy may close a connection on which nothing is said for a minute

DONE = b"data: [DONE]\n\n"


class ClientGone(Exception):
    """The client closed its connection."""


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`, which is cancelled as soon as the client closes its connection. Raises ClientGone then.

    receive: of a request whose body has been read.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


class EventStream(StreamingResponse):
    """Server-sent events. Its source ends as soon as the client closes the connection, also while nothing is said.

    Starlette's own response looks at the connection only when it has something to send.
    """

    media_type = "text/event-stream"

    def __init__(self, source: AsyncGenerator[bytes]) -> None:
        super().__init__(source, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self.source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_gone(receive, self.stream_response(send))
        finally:
            await self.source.aclose()


def data(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def comment(value: Any) -> bytes:
    """What clients skip."""
    return b": " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


async def never_quiet(source: AsyncGenerator[bytes], quiet_s: float = _QUIET_S) -> AsyncGenerator[bytes]:
    """What `source` says, and a comment whenever it says nothing for long."""
    following: asyncio.Future[bytes] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(anext(source))
            done, _ = await asyncio.wait({following}, timeout=quiet_s)
            if not done:
                yield b": working\n\n"
                continue
            try:
                said = following.result()
            except StopAsyncIteration:
                return
            following = None
            yield said
    finally:
        if following:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await source.aclose()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
