"""Work that ends with its connection, and streams that are never quiet for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from codecascade_client.gateway.live import ClientGone, comment, data, never_quiet, unless_gone
from starlette.types import Message


class Connection:
    """What an ASGI server tells of a connection: nothing, until its client has closed it."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def receive(self) -> Message:
        await self.closed.wait()
        return {"type": "http.disconnect"}


async def test_work_that_ends_first_gives_its_result() -> None:
    assert await unless_gone(Connection().receive, asyncio.sleep(0, "result")) == "result"


async def test_a_failure_is_the_callers() -> None:
    async def fail() -> None:
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        await unless_gone(Connection().receive, fail())


async def test_a_closed_connection_cancels_the_work_before_it_is_told() -> None:
    connection, cancelled = Connection(), []

    async def work() -> None:
        connection.closed.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(ClientGone):
        await unless_gone(connection.receive, work())
    assert cancelled == [True]


async def test_a_quiet_source_is_filled_with_comments_and_loses_nothing() -> None:
    going_on, ended = asyncio.Event(), []

    async def source() -> AsyncGenerator[bytes]:
        try:
            yield b"first"
            await going_on.wait()
            yield b"second"
        finally:
            ended.append(True)

    said = never_quiet(source(), quiet_s=0.0)
    assert await next_but_comments(said) == b"first"
    assert await anext(said) == b": working\n\n"
    going_on.set()
    assert await next_but_comments(said) == b"second"
    assert await next_but_comments(said) is None
    assert ended == [True]


async def next_but_comments(said: AsyncGenerator[bytes]) -> bytes | None:
    """None at the end."""
    while (text := await anext(said, None)) == b": working\n\n":
        pass
    return text


async def test_a_stream_that_is_left_ends_its_source() -> None:
    ended = []

    async def source() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b"more"
        finally:
            ended.append(True)

    said = never_quiet(source())
    assert await anext(said) == b"more"
    await said.aclose()
    assert ended == [True]


def test_an_event_is_one_line_whatever_is_in_it() -> None:
    assert data({"text": "a\nb\r\u2028é"}).count(b"\n") == 2
    assert comment({"text": "a\nb"}) == b': {"text": "a\\nb"}\n\n'
