"""Settings of the server's Python models."""

from pathlib import Path

import pytest
from codecascade.errors import InvalidSetting
from codecascade.triton.calls.tls import Tls
from codecascade.triton.settings import ServerSettings, read_server_settings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in ServerSettings.model_fields:
        monkeypatch.delenv(f"CODECASCADE_{field.upper()}", raising=False)


def test_without_variables_everything_is_local() -> None:
    settings = read_server_settings()
    assert settings == ServerSettings()
    assert settings.tiers_tls is settings.sandbox_tls is None


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECASCADE_SANDBOX_URL", "")
    monkeypatch.setenv("CODECASCADE_SANDBOX_WORKERS", "")
    assert read_server_settings() == ServerSettings()


@pytest.mark.parametrize("server", ["tiers", "sandbox"])
def test_tls_takes_the_files_of_its_own_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str) -> None:
    files = {name: tmp_path / name for name in ("ca", "certificate", "key")}
    for name, path in files.items():
        path.touch()
        monkeypatch.setenv(f"CODECASCADE_{server.upper()}_{name.upper()}", str(path))
    settings = read_server_settings()
    tls = {"tiers": settings.tiers_tls, "sandbox": settings.sandbox_tls}
    assert tls.pop(server) == Tls(files["ca"], files["key"], files["certificate"])
    assert list(tls.values()) == [None]


@pytest.mark.parametrize("server", ["tiers", "sandbox"])
@pytest.mark.parametrize("given", [("CERTIFICATE",), ("KEY",), ("CERTIFICATE", "KEY"), ("CA", "CERTIFICATE"), ("CA", "KEY")])
def test_half_of_tls_is_refused(monkeypatch: pytest.MonkeyPatch, server: str, given: tuple[str, ...]) -> None:
    prefix = f"CODECASCADE_{server.upper()}"
    for name in given:
        monkeypatch.setenv(f"{prefix}_{name}", __file__)
    settings = read_server_settings()
    with pytest.raises(InvalidSetting, match=f"^{prefix}_CERTIFICATE and {prefix}_KEY go together, and need {prefix}_CA$"):
        _ = settings.tiers_tls if server == "tiers" else settings.sandbox_tls


@pytest.mark.parametrize(
    ("name", "value"), [("SANDBOX_CA", "/absent"), ("TIERS_KEY", "/absent"), ("SANDBOX_WORKERS", "-1"), ("SANDBOX_WORKERS", "x")]
)
def test_a_value_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"CODECASCADE_{name}", value)
    with pytest.raises(InvalidSetting, match=f"^CODECASCADE_{name} is {value!r}: "):
        read_server_settings()
