"""Who may call, how often, how much at a time and with how much."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from codecascade_client.gateway.errors import ApiError
from codecascade_client.gateway.metrics import Metrics
from codecascade_client.gateway.settings import GatewaySettings, hash_of

OPEN = frozenset({"/", "/healthz", "/livez", "/openapi.json"})
COMPLETIONS = frozenset({"/v1/completions", "/v1/fim/completions", "/v1/chat/completions", "/infill"})
_CALLERS = 10_000


class Rate:
    """A bucket of `per_minute` tokens for each caller, which fills evenly. clock: seconds."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._callers: OrderedDict[object, tuple[float, float]] = OrderedDict()  # caller → tokens, when they were counted

    def take(self, caller: object) -> float:
        """0, or the seconds until this caller may ask again."""
        now, per_s = self._clock(), self._per_minute / 60
        tokens, counted = self._callers.pop(caller, (float(self._per_minute), now))
        tokens = min(float(self._per_minute), tokens + (now - counted) * per_s)
        allowed = tokens >= 1
        self._callers[caller] = (tokens - allowed, now)
        if len(self._callers) > _CALLERS:
            self._callers.popitem(last=False)  # who asked longest ago
        return 0.0 if allowed else (1 - tokens) / per_s


class Access:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._keys = settings.key_hashes
        self._rate = Rate(settings.requests_per_minute) if settings.requests_per_minute else None
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        with self._metrics.timed(scope["path"] if scope["path"] in COMPLETIONS else "other") as status:

            async def counted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status[0] = message["status"]
                await send(message)

            try:
                self._admit(scope)
            except ApiError as error:
                return await error.response()(scope, receive, counted)
            return await self._run(scope, _limited(receive, self._settings.max_body_bytes), counted)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in COMPLETIONS:
            return await self._app(scope, receive, send)
        self._under_way += 1
        with self._metrics.in_flight.track_inprogress():
            try:
                return await self._app(scope, receive, send)
            finally:
                self._under_way -= 1

    def _admit(self, scope: Scope) -> None:
        """Raises ApiError."""
        headers = Headers(scope=scope)
        key = hash_of(headers.get("authorization", "").removeprefix("Bearer ").strip())
        if self._keys and scope["path"] not in OPEN and key not in self._keys:
            raise ApiError(
                401, "the API key is missing or unknown, must be sent as `Authorization: Bearer KEY`", "authentication_error"
            )
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._settings.max_body_bytes:
            raise ApiError(413, _too_large(self._settings.max_body_bytes), "invalid_request_error")
        if scope["path"] in COMPLETIONS:
            self._make_room(key if self._keys else (scope.get("client") or ("",))[0])

    def _make_room(self, caller: object) -> None:
        if self._under_way >= self._settings.max_in_flight:
            raise ApiError(
                429,
                f"{self._under_way} completions are under way, no more are taken",
                "rate_limit_error",
                code="overloaded",
                retry_s=1.0,
            )
        if self._rate and (wait_s := self._rate.take(caller)):
            most = self._settings.requests_per_minute
            raise ApiError(
                429, f"more than {most} completions in a minute", "rate_limit_error", code="rate_limit_exceeded", retry_s=wait_s
            )


def _limited(receive: Receive, most: int) -> Receive:
    """The same, for bodies whose length nobody told."""
    length = 0

    async def counted() -> Message:
        nonlocal length
        message = await receive()
        length += len(message.get("body", b""))
        if length > most:
            raise HTTPException(413, _too_large(most))  # the one kind of error that passes through what reads the body
        return message

    return counted


def _too_large(most: int) -> str:
    return f"the request is larger than {most} bytes"
