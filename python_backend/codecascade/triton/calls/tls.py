"""TLS of a gRPC connection to a Triton server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc  # type: ignore[import-untyped]


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. No root certificates: those of this machine. Key and chain: for a server that checks its clients."""

    root_certificates: Path | None = None
    private_key: Path | None = None
    certificate_chain: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises OSError if a file cannot be read."""
        import grpc

        return grpc.ssl_channel_credentials(*map(_read, (self.root_certificates, self.private_key, self.certificate_chain)))


def _read(path: Path | None) -> bytes | None:
    return path.read_bytes() if path else None
