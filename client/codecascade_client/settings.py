"""Settings of the client: the CODECASCADE_… variables of its environment. Options of the command line win over them."""

from __future__ import annotations

from pathlib import Path

from codecascade.errors import InvalidSetting
from codecascade.triton.calls.tls import Tls
from codecascade.triton.settings import PREFIX, invalid_setting
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from codecascade_client.channel import DEFAULT_URL, Connection, check_addresses


class Settings(BaseSettings):
    """The variable of a field is CODECASCADE_ and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True)

    url: str = Field(
        default=DEFAULT_URL, description="host:port of the server's gRPC service; several as IP:port, separated by commas."
    )
    timeout_s: float = Field(default=600.0, gt=0, description="Seconds that a request may take.")
    tls: bool = Field(default=False, description="Use TLS, with the root certificates of this machine.")
    root_certificates: Path | None = Field(default=None, description="PEM file of certificates to trust. Turns TLS on.")
    private_key: Path | None = Field(default=None, description="PEM file, for a server that checks its clients.")
    certificate_chain: Path | None = Field(default=None, description="PEM file that belongs to the key.")

    token: SecretStr | None = Field(default=None, description="Sent with every call as `authorization: Bearer …`.")
    server_name: str | None = Field(default=None, description="The name in the server's certificate, if it is not the url's.")

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        check_addresses(url)
        return url

    @property
    def transport_security(self) -> Tls | None:
        """None for a connection without TLS."""
        if not (self.tls or self.root_certificates):
            return None
        return Tls(self.root_certificates, self.private_key, self.certificate_chain)

    @property
    def connection(self) -> Connection:
        token = self.token.get_secret_value() if self.token else None
        return Connection(self.url, self.transport_security, token, server_name=self.server_name)


def read_settings(url: str | None = None) -> Settings:
    """From the environment, but with url if it is given. Raises InvalidSetting, also if a certificate cannot be read."""
    try:
        settings = Settings(url=url) if url is not None else Settings()
        if tls := settings.transport_security:
            tls.credentials()
    except ValidationError as error:
        problem = error.errors()[0]
        if problem["loc"] == ("url",):
            raise InvalidSetting(str(problem["ctx"]["error"])) from error
        raise invalid_setting(error) from error
    except OSError as error:
        raise InvalidSetting(f"{error.filename} cannot be read for TLS: {error.strerror}") from error
    return settings
