"""Clients of the `cascade` model, over gRPC. The command line and the measuring tools are in the sub-packages."""

from codecascade.triton.calls.tls import Tls

from codecascade_client.answers import Completion, Event, Health, Plans
from codecascade_client.attempts import Retries
from codecascade_client.channel import Connection
from codecascade_client.client import AsyncCascadeClient, CascadeClient
from codecascade_client.errors import Overloaded, RequestFailed
from codecascade_client.settings import Settings, read_settings

__all__ = [
    "AsyncCascadeClient",
    "CascadeClient",
    "Completion",
    "Connection",
    "Event",
    "Health",
    "Overloaded",
    "Plans",
    "RequestFailed",
    "Retries",
    "Settings",
    "Tls",
    "read_settings",
]
