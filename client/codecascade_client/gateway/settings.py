"""Settings of the gateway: the CODECASCADE_GATEWAY_… variables. Where the cascade is, the client's own settings say."""

from __future__ import annotations

import hashlib
import ipaddress

from codecascade.errors import InvalidSetting
from codecascade.triton.settings import PREFIX
from pydantic import Field, FilePath, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

GATEWAY_PREFIX = f"{PREFIX}GATEWAY_"
DEFAULT_PORT = 8080


class GatewaySettings(BaseSettings):
    """The variable of a field is CODECASCADE_GATEWAY_ and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=GATEWAY_PREFIX, env_ignore_empty=True, frozen=True)

    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(default=DEFAULT_PORT, ge=0, le=65535, description="The port to listen on.")
    metrics_port: int = Field(default=0, ge=0, le=65535, description="Another port for /metrics, without keys; 0: none.")
    health_url: HttpUrl | None = Field(
        default=None, description="Where the cascade's supervisor says whether it is ready: http://HOST:8003/health/ready."
    )
    drain_s: int = Field(default=10, ge=0, description="Seconds that requests under way have to end when it is stopped.")
    api_keys: SecretStr | None = Field(default=None, description="Keys that clients may send, separated by commas.")
    open: bool = Field(default=False, description="Listen on an address that is not loopback although there are no keys.")
    requests_per_minute: int = Field(
        default=0, ge=0, description="Completions that one key (or address) may ask for in a minute; 0: no limit."
    )
    max_in_flight: int = Field(default=256, ge=1, description="Completions under way; more are refused with 429.")
    max_body_bytes: int = Field(default=1 << 20, ge=1024, description="Larger requests are refused with 413.")
    cors_origins: str | None = Field(default=None, description="Web origins that may call it, separated by commas.")
    tls_certificate: FilePath | None = Field(default=None, description="PEM file; with it the gateway speaks HTTPS.")
    tls_key: FilePath | None = Field(default=None, description="PEM file that belongs to it.")

    @property
    def key_hashes(self) -> frozenset[bytes]:
        """SHA-256 of each key: looked up by hash, a key's time to be found says nothing about the keys there are."""
        keys = self.api_keys.get_secret_value().split(",") if self.api_keys else []
        return frozenset(hash_of(key.strip()) for key in keys if key.strip())

    @property
    def origins(self) -> list[str]:
        return [origin.strip() for origin in (self.cors_origins or "").split(",") if origin.strip()]

    def check(self) -> None:
        """Raises InvalidSetting if everybody could use the gateway and nobody said so."""
        if not (self.key_hashes or self.open or _is_loopback(self.host)):
            raise InvalidSetting(
                f"{GATEWAY_PREFIX}HOST is {self.host!r}, which others can reach: "
                f"{GATEWAY_PREFIX}API_KEYS must hold keys, or {GATEWAY_PREFIX}OPEN must be true"
            )


def hash_of(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
