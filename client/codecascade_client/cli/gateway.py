"""`codecascade gateway`: the HTTP APIs in front of a cascade."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, Any

import typer
from codecascade.triton.settings import invalid_setting
from pydantic import ValidationError

from codecascade_client.gateway.settings import DEFAULT_PORT, GatewaySettings
from codecascade_client.settings import read_settings


def gateway(
    host: Annotated[str | None, typer.Option(help="The address to listen on; default 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help=f"The port to listen on, 0 for a free one; default {DEFAULT_PORT}.")] = None,
    url: Annotated[str | None, typer.Option(help="host:port of the cascade's gRPC service [env CODECASCADE_URL].")] = None,
) -> None:
    """Serve OpenAI's and editors' HTTP APIs for a cascade. Settings: CODECASCADE_GATEWAY_… (README)."""
    import uvicorn  # here: these take half a second, which no other command should wait for

    from codecascade_client.gateway.app import gateway_app

    cascade = read_settings(url)
    given: dict[str, Any] = {"host": host, "port": port}
    try:
        settings = GatewaySettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise invalid_setting(error) from error
    settings.check()
    config = uvicorn.Config(
        gateway_app(settings, cascade),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # anybody could name another address and so pass the limit of requests
        timeout_graceful_shutdown=settings.drain_s,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    scheme = "https" if settings.tls_certificate else "http"
    print(f"Gateway {scheme}://{settings.host}:{settings.port}/v1 for the cascade at {cascade.url}", file=sys.stderr, flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn has ended by then, in order
        uvicorn.Server(config).run()
