"""Settings of the server's Python models: the CODECASCADE_… variables of Triton's environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, FilePath, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from codecascade.errors import InvalidSetting
from codecascade.triton.calls.threads import FEW, KEPT
from codecascade.triton.calls.tls import Tls

PREFIX = "CODECASCADE_"


class ServerSettings(BaseSettings):
    """Every field is the variable of the same name in capitals, after CODECASCADE_. An empty variable counts as not set."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True)

    deployment: Path | None = Field(
        default=None, description="Path of the deployment file that `build/` rendered. `cascade` needs it."
    )
    tiers_url: str | None = Field(default=None, description="host:port of another Triton's gRPC, for all tiers without a `url`.")
    tiers_ca: FilePath | None = Field(default=None, description="PEM file of certificates to trust there. Set: TLS.")
    tiers_certificate: FilePath | None = Field(default=None, description="PEM file of the cascade's own certificate.")
    tiers_key: FilePath | None = Field(default=None, description="PEM file of that certificate's key.")
    sandbox_url: str | None = Field(
        default=None, description="host:port of another Triton's gRPC, whose `sandbox` runs the tests."
    )
    sandbox_ca: FilePath | None = Field(default=None, description="PEM file of certificates to trust there. Set: TLS.")
    sandbox_certificate: FilePath | None = Field(default=None, description="PEM file of the cascade's own certificate.")
    sandbox_key: FilePath | None = Field(default=None, description="PEM file of that certificate's key.")
    sandbox_workers: int | None = Field(
        default=None,
        ge=0,
        description="Candidates that `sandbox` runs at a time; 0: as many as cores. Overrides its config.pbtxt.",
    )
    sandbox_level: str | None = Field(default=None, description="Isolation level of `sandbox`. Overrides its config.pbtxt.")

    sandbox_modules: str | None = Field(
        default=None,
        description="Packages that `sandbox` offers, separated by commas. Without it, `sandbox_modules` of the deployment file.",
    )
    inner_token: str | None = Field(
        default=None,
        description="Secret that tiers and `sandbox` want of a caller, and `record` and `price` send; drawn at the start. "
        "Set it for several servers. Set but empty: they trust everybody.",
    )
    shadow_plan: str | None = Field(
        default=None, description="Replay requests by this plan too, after they are answered by their own. None without it."
    )
    shadow_share: float = Field(default=0.01, ge=0, le=1, description="Share of the requests that are replayed.")
    shadow_in_flight: int = Field(
        default=4, ge=0, description="No replay starts or goes on while so many requests, or more, are in flight."
    )

    nested_calls: int = Field(
        default=FEW,
        ge=2 * KEPT,
        description="Calls to others that a model may have under way: `thread-pool-size` of Triton's Python backend.",
    )

    @property
    def tiers_tls(self) -> Tls | None:
        """Raises InvalidSetting."""
        return _tls("TIERS", self.tiers_ca, self.tiers_certificate, self.tiers_key)

    @property
    def sandbox_tls(self) -> Tls | None:
        """Raises InvalidSetting."""
        return _tls("SANDBOX", self.sandbox_ca, self.sandbox_certificate, self.sandbox_key)


def read_server_settings() -> ServerSettings:
    """From the environment. Raises InvalidSetting, which names the variable, its value and what is wrong."""
    try:
        return ServerSettings()
    except ValidationError as error:
        raise invalid_setting(error) from error


def invalid_setting(error: ValidationError) -> InvalidSetting:
    """The first thing that is wrong, as a sentence that names the variable and its value."""
    first = error.errors()[0]
    return InvalidSetting(f"{PREFIX}{str(first['loc'][0]).upper()} is {first['input']!r}: {first['msg']}")


def _tls(server: str, ca: Path | None, certificate: Path | None, key: Path | None) -> Tls | None:
    """None without a CA: no TLS."""
    if (certificate or key) and not (ca and certificate and key):
        ca_name, certificate_name, key_name = (f"{PREFIX}{server}_{file}" for file in ("CA", "CERTIFICATE", "KEY"))
        raise InvalidSetting(f"{certificate_name} and {key_name} go together, and need {ca_name}")
    return Tls(root_certificates=ca, private_key=key, certificate_chain=certificate) if ca else None
