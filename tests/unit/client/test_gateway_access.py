"""Who may call the gateway, how often, and what failures of the cascade become."""

from __future__ import annotations

import grpc  # type: ignore[import-untyped]
import pytest
from codecascade.errors import InvalidSetting
from codecascade_client.errors import Overloaded, RequestFailed
from codecascade_client.gateway.access import Rate
from codecascade_client.gateway.errors import api_error
from codecascade_client.gateway.settings import GatewaySettings


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_caller_has_its_requests_back_evenly() -> None:
    clock = Clock()
    rate = Rate(per_minute=2, clock=clock)
    assert [rate.take("a"), rate.take("a"), rate.take("b")] == [0.0, 0.0, 0.0]
    assert rate.take("a") == pytest.approx(30.0)
    clock.now += 29.0
    assert rate.take("a") == pytest.approx(1.0)
    clock.now += 1.0
    assert [rate.take("a"), rate.take("a")] == [0.0, pytest.approx(30.0)]


def test_callers_who_have_not_asked_for_long_are_forgotten() -> None:
    rate = Rate(per_minute=1, clock=Clock())
    rate.take("first")
    assert rate.take("first") > 0
    for number in range(10_000):
        rate.take(number)
    assert rate.take("first") == 0.0


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_loopback_no_key_is_needed(host: str) -> None:
    GatewaySettings(host=host).check()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "gateway.example"])
def test_elsewhere_a_key_is_or_somebody_says_otherwise(host: str) -> None:
    with pytest.raises(InvalidSetting, match="API_KEYS must hold keys, or CODECASCADE_GATEWAY_OPEN must be true"):
        GatewaySettings(host=host).check()
    with pytest.raises(InvalidSetting):
        GatewaySettings(host=host, api_keys=" , ").check()  # type: ignore[arg-type]
    GatewaySettings(host=host, api_keys="key").check()  # type: ignore[arg-type]
    GatewaySettings(host=host, open=True).check()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECASCADE_GATEWAY_API_KEYS", "one, two,")
    monkeypatch.setenv("CODECASCADE_GATEWAY_CORS_ORIGINS", "https://a.example, https://b.example")
    settings = GatewaySettings()
    assert len(settings.key_hashes) == 2
    assert settings.origins == ["https://a.example", "https://b.example"]
    assert "one, two" not in repr(settings)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("INVALID_ARGUMENT", 400),
        ("DEADLINE_EXCEEDED", 504),
        ("UNAVAILABLE", 503),
        ("NOT_FOUND", 503),
        ("INTERNAL", 502),
        ("UNAUTHENTICATED", 502),
    ],
)
def test_a_failure_has_a_status_of_http(code: str, status: int) -> None:
    told = api_error(RequestFailed(grpc.StatusCode[code], "why"))
    assert (told.status, told.body["error"]["message"]) == (status, "why")


def test_an_overload_says_when_to_come_back() -> None:
    told = api_error(Overloaded(grpc.StatusCode.UNAVAILABLE, "overloaded: no room, retry after 1.2 s", 1.2)).response()
    assert (told.status_code, told.headers["Retry-After"]) == (429, "2")


def test_what_nobody_foresaw_is_not_told() -> None:
    told = api_error(RuntimeError("secret"))
    assert (told.status, "secret" in str(told.body)) == (500, False)
