"""Where the server is, from the environment. The command line's options come before it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

DEFAULT_URL = "127.0.0.1:8001"


class Settings(BaseSettings):
    """CODECASCADE_URL (host:port of the gRPC service), CODECASCADE_TIMEOUT_S, and for TLS CODECASCADE_TLS=true (roots of
    this machine) or CODECASCADE_ROOT_CERTIFICATES (a PEM file), with CODECASCADE_PRIVATE_KEY and
    CODECASCADE_CERTIFICATE_CHAIN where the server wants to know its clients.
    """

    model_config = SettingsConfigDict(env_prefix="CODECASCADE_", frozen=True)

    url: str = DEFAULT_URL
    timeout_s: float = Field(default=600.0, gt=0)
    tls: bool = False
    root_certificates: Path | None = None
    private_key: Path | None = None
    certificate_chain: Path | None = None
