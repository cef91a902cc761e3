"""Client of the `cascade` model, over gRPC. The command line and the measuring tools are in the sub-packages."""

from codecascade.triton.calls.tls import Tls

from codecascade_client.client import CascadeClient, Completion
from codecascade_client.errors import RequestFailed
from codecascade_client.settings import Settings, read_settings

__all__ = ["CascadeClient", "Completion", "RequestFailed", "Settings", "Tls", "read_settings"]
