"""Where a client's calls go: targets, options and metadata of a gRPC channel."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from codecascade.triton.calls.tls import Tls

DEFAULT_URL = "127.0.0.1:8001"
_ADDRESS = re.compile(r"(?P<host>[^\s/\[\]:,]+|\[[0-9a-fA-F:.%]+\]):(?P<port>\d{1,5})")

# Calls go round the addresses that answer. An address that does not is tried again soon: gRPC's own first wait is a second.
_OPTIONS: Mapping[str, Any] = {
    "grpc.lb_policy_name": "round_robin",
    "grpc.max_send_message_length": -1,
    "grpc.max_receive_message_length": -1,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
}


@dataclass(frozen=True, slots=True)
class Connection:
    """Raises ValueError for a url that is not host:port, or IP:port,IP:port."""

    url: str = DEFAULT_URL
    """host:port of the gRPC service, without a scheme; calls go round the addresses of the name. Or several IP:port."""
    tls: Tls | None = None
    token: str | None = field(default=None, repr=False)
    """Sent as `authorization: Bearer TOKEN`."""
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with every call."""
    server_name: str | None = None
    """The name that the server's certificate must have, if it is not the url's."""
    channel_options: Mapping[str, Any] = field(default_factory=dict)
    """gRPC's own channel arguments, by name."""

    def __post_init__(self) -> None:
        check_addresses(self.url)

    @property
    def target(self) -> str:
        addresses = self.url.split(",")
        if len(addresses) == 1:
            return self.url
        return f"ipv{_ip_version(addresses[0])}:{self.url}"

    @property
    def options(self) -> list[tuple[str, Any]]:
        name = {"grpc.ssl_target_name_override": self.server_name} if self.server_name else {}
        return list({**_OPTIONS, **name, **self.channel_options}.items())

    @property
    def call_metadata(self) -> Sequence[tuple[str, str]]:
        token = {"authorization": f"Bearer {self.token}"} if self.token else {}
        return tuple({**token, **self.metadata}.items())


def check_addresses(url: str) -> None:
    """Raises ValueError unless url is host:port, or several IP:port of one kind with commas between."""
    addresses = url.split(",")
    if not all(map(_is_address, addresses)):
        raise ValueError(f"the server's address is {url!r}, must be host:port")
    if len(addresses) > 1 and len({_ip_version(address) for address in addresses}) > 1:
        raise ValueError(f"the servers' addresses are {url!r}, must all be IPv4 or all be IPv6")


def _is_address(address: str) -> bool:
    match = _ADDRESS.fullmatch(address)
    return match is not None and int(match["port"]) <= 65535


def _ip_version(address: str) -> int:
    """Raises ValueError for a name: gRPC finds several servers behind one name by itself, and takes no list of names."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        raise ValueError(f"one of several servers is {address!r}, must be IP:port; one name may have all addresses") from None
