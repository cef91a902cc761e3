"""The gateway: HTTP APIs that editors and services speak, in front of the cascade. It decides nothing itself."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from grpc import StatusCode  # type: ignore[import-untyped]
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from codecascade_client.answers import Completion, Event
from codecascade_client.attempts import NO_RETRIES
from codecascade_client.client import AsyncCascadeClient, AsyncEvents
from codecascade_client.errors import RequestFailed
from codecascade_client.gateway import answers
from codecascade_client.gateway.access import Access
from codecascade_client.gateway.answers import Reply
from codecascade_client.gateway.ask import MODEL, Asked, asked_chat, asked_completion, asked_infill
from codecascade_client.gateway.bodies import ChatBody, CompletionBody, InfillBody
from codecascade_client.gateway.errors import ApiError, api_error
from codecascade_client.gateway.health import is_ready
from codecascade_client.gateway.live import DONE, ClientGone, EventStream, comment, data, never_quiet, unless_gone
from codecascade_client.gateway.metrics import Metrics
from codecascade_client.gateway.settings import GatewaySettings
from codecascade_client.settings import Settings

_log = logging.getLogger(__name__)
_PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ERROR = {"description": "An error in OpenAI's form."}
_ERRORS: dict[int | str, dict[str, Any]] = dict.fromkeys((400, 401, 404, 413, 429, 502, 503, 504), _ERROR)

_T = TypeVar("_T")
Chunks = Callable[[Completion], list[bytes]]


def gateway_app(settings: GatewaySettings, cascade: Settings) -> FastAPI:
    """cascade: where it is, and how long it may take."""
    client = AsyncCascadeClient.from_settings(cascade, NO_RETRIES)  # callers have their own, and would wait for ours

    metrics = Metrics()

    @asynccontextmanager
    async def connected(_: FastAPI) -> AsyncIterator[None]:
        with metrics.served(settings.host, settings.metrics_port):
            async with client:
                yield

    app = FastAPI(
        title="codecascade", version=version("codecascade"), lifespan=connected, docs_url=None, redoc_url=None, responses=_ERRORS
    )
    app.add_middleware(Access, settings=settings, metrics=metrics)
    if settings.origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.origins, allow_methods=["*"], allow_headers=["*"])
    for kind in (ApiError, RequestFailed, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _told)
    app.add_exception_handler(ClientGone, _nobody)
    app.add_exception_handler(Exception, _told)
    _add_completions(app, _Cascade(client, cascade.timeout_s, metrics))
    _add_information(app, client, metrics)
    _add_page(app)
    _add_probes(app, client, str(settings.health_url) if settings.health_url else None)
    return app


class _Cascade:
    """Asks the cascade for as long as the client stays."""

    def __init__(self, client: AsyncCascadeClient, timeout_s: float, metrics: Metrics) -> None:
        self._client, self._timeout_s, self._metrics = client, timeout_s, metrics

    async def complete(self, request: Request, asked: Asked) -> Completion:
        """Raises RequestFailed, ClientGone."""
        try:
            return await self._until_gone(
                request, self._client.complete(asked.prompt, timeout_s=self._timeout_s, **asked.options)
            )
        except RequestFailed as refusal:
            return await self.complete(request, asked.as_the_tiers_can(refusal))

    async def stream(self, request: Request, asked: Asked, chunks: Chunks) -> EventStream:
        """What happens as comments, and the answer's chunks. Raises RequestFailed if nothing happens, ClientGone."""
        events = self._events(asked)
        try:
            first = await self._until_gone(request, events.__anext__())
        except RequestFailed as refusal:
            return await self.stream(request, asked.as_the_tiers_can(refusal), chunks)
        except BaseException:
            events.close()
            raise
        return _Stream(never_quiet(self._said(asked, first, events, chunks)), self._metrics)

    async def _said(self, asked: Asked, first: Event, events: AsyncEvents, chunks: Chunks) -> AsyncGenerator[bytes]:
        event: Event | None = first
        try:
            async with events:
                while event:
                    for chunk in (
                        chunks(event.completion) if event.completion else [comment({"event": event.name, **event.fields})]
                    ):
                        yield chunk
                    event = await anext(events, None)
        except RequestFailed as refusal:
            async for chunk in self._said_instead(asked, refusal, chunks):
                yield chunk

    async def _said_instead(self, asked: Asked, refusal: RequestFailed, chunks: Chunks) -> AsyncGenerator[bytes]:
        try:
            other = asked.as_the_tiers_can(refusal)
            events = self._events(other)
            first = await anext(events)
        except RequestFailed as error:
            yield data(api_error(error).body)
            return
        async for chunk in self._said(other, first, events, chunks):
            yield chunk

    def _events(self, asked: Asked) -> AsyncEvents:
        return self._client.stream(asked.prompt, timeout_s=self._timeout_s, **asked.options)

    async def _until_gone(self, request: Request, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            return await unless_gone(request.receive, work)
        except ClientGone:
            self._metrics.gone.inc()
            raise


class _Stream(EventStream):
    def __init__(self, source: AsyncGenerator[bytes], metrics: Metrics) -> None:
        super().__init__(source)
        self._metrics = metrics

    async def __call__(self, *connection: Any) -> None:
        try:
            await super().__call__(*connection)
        except ClientGone:
            self._metrics.gone.inc()


def _add_completions(app: FastAPI, cascade: _Cascade) -> None:
    @app.post("/v1/completions")
    async def completions(body: CompletionBody, request: Request) -> Response:
        """OpenAI's completions, with `suffix`; or Tabby's, with `segments`."""
        reply = Reply(asked_completion(body, request.headers))
        if body.segments:
            return JSONResponse(answers.tabby_completion(reply, await cascade.complete(request, reply.asked)))
        return await _replied(cascade, request, reply, body)

    @app.post("/v1/fim/completions")
    async def fim(body: CompletionBody, request: Request) -> Response:
        """Mistral's completions between `prompt` and `suffix`, which Continue asks for."""
        return await _replied(cascade, request, Reply(asked_completion(body, request.headers), chat=True), body)

    @app.post("/v1/chat/completions")
    async def chat(body: ChatBody, request: Request) -> Response:
        """OpenAI's chat. The last user message is the code to complete."""
        return await _replied(cascade, request, Reply(asked_chat(body, request.headers), chat=True), body)

    @app.post("/infill")
    async def infill(body: InfillBody, request: Request) -> Response:
        """llama.cpp's infill, as llama.vscode and llama.vim send it."""
        if body.n_predict == 0:
            return JSONResponse(answers.nothing_infilled())
        asked = asked_infill(body, request.headers)
        if body.stream:
            return await cascade.stream(request, asked, lambda done: [data(answers.infilled(asked, done))])
        try:
            done = await cascade.complete(request, asked)
        except RequestFailed as error:
            if error.code is not StatusCode.DEADLINE_EXCEEDED:
                raise
            return JSONResponse(answers.nothing_infilled())  # an editor asks again as soon as somebody types
        return JSONResponse(answers.infilled(asked, done), headers=answers.headers(done))


async def _replied(cascade: _Cascade, request: Request, reply: Reply, body: CompletionBody | ChatBody) -> Response:
    if body.stream:
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        return await cascade.stream(request, reply.asked, lambda done: [*map(data, reply.chunks(done, with_usage)), DONE])
    done = await cascade.complete(request, reply.asked)
    return JSONResponse(reply.whole(done), headers=answers.headers(done))


def _add_information(app: FastAPI, client: AsyncCascadeClient, metrics: Metrics) -> None:
    @app.get("/v1/models")
    async def models() -> Response:
        """A model for every plan, and one for the default plan."""
        return JSONResponse({"object": "list", "data": answers.models(await client.plans())})

    @app.get("/v1/models/{model:path}")
    async def model(model: str) -> Response:
        known = {entry["id"]: entry for entry in answers.models(await client.plans())}
        if model not in known:
            raise ApiError(
                404, f"model is unknown, must be one of {', '.join(known)}", "invalid_request_error", code="model_not_found"
            )
        return JSONResponse(known[model])

    @app.get("/v1/health")
    async def tabby_health() -> Response:
        """Tabby's."""
        return JSONResponse(
            {
                "model": MODEL,
                "device": "triton",
                "arch": platform.machine(),
                "cpu_info": "",
                "cpu_count": os.cpu_count(),
                "cuda_devices": [],
                "version": {"build_date": "", "build_timestamp": "", "git_sha": "", "git_describe": version("codecascade")},
            }
        )

    @app.get("/metrics")
    async def page() -> Response:
        """The gateway's own, for Prometheus."""
        return Response(metrics.page(), media_type=CONTENT_TYPE_LATEST)


def _add_page(app: FastAPI) -> None:
    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        """A page to try it. It asks this gateway alone, and has nothing from elsewhere."""
        return HTMLResponse(page, headers={"Content-Security-Policy": _PAGE_POLICY, "X-Content-Type-Options": "nosniff"})


def _add_probes(app: FastAPI, client: AsyncCascadeClient, health_url: str | None) -> None:
    @app.get("/healthz")
    async def healthz() -> Response:
        """200 if the cascade takes requests, else 503."""
        ready = await is_ready(health_url) if health_url else (await client.health()).ready
        return JSONResponse({"status": "ready" if ready else "not ready"}, 200 if ready else 503)

    @app.get("/livez")
    async def livez() -> Response:
        """200: the gateway itself answers."""
        return JSONResponse({"status": "live"})


async def _nobody(*_: object) -> Response:
    """For the metrics: the client is gone."""
    return Response(status_code=499)


async def _told(_: Request, error: Exception) -> Response:
    told = api_error(error)
    if told.status == 500:
        _log.error("internal error", exc_info=error)
    return told.response()
