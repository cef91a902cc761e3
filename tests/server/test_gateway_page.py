"""The gateway's page in headless Chromium, before a real Triton with scripted tiers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from codecascade_build.server.process import RunningServer

from tests.server.gateway import Gateway, running_gateway
from tests.server.metrics import eventually, metric
from tests.server.node import install_packages, run
from tests.server.real_server import StartServer
from tests.server.scripted.repository import ScriptedTier, render

pytestmark = pytest.mark.triton

KEY = "secret"
BODY = 'def add(a, b):\n    """The sum of a and b."""\n'
PROMPT = f"# small: wrong_tests\n{BODY}"
SUFFIX = "\n\nprint(add(1, 2))\n"
TIERS = [ScriptedTier("small", fim="qwen2.5-coder"), ScriptedTier("large", price_per_mtok=3.0, fim="qwen2.5-coder")]
STEP = {"k": 3, "lines_per_sample": 2, "threshold": 1.0}
PLANS = {
    "two": {
        "given_tests": [{"tier": "small", "draws": 1}, {"tier": "large", "draws": 1}],
        "steps": [{"tier": "small", **STEP}, {"tier": "large", **STEP}],
        "infill": [{"tier": "small", "accept_log_prob": -5.0}, {"tier": "large"}],
    },
    "large-alone": {
        "steps": [{"tier": "large", "k": 0}],
        "held_out": {"accuracy": {"mean": 0.5}, "usd_per_1000": {"mean": 0.21}},
    },
}
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def server(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    here = render(tmp_path_factory.mktemp("scripted"), TIERS, PLANS, default="two", real_sandbox=True, stream=True)
    return start_server(here.repositories, here.deployment)


@pytest.fixture(scope="module")
def gateway(server: RunningServer) -> Iterator[Gateway]:
    with running_gateway(server.grpc, api_keys=KEY) as running:
        yield running


def test_the_page_needs_no_key_and_nothing_from_elsewhere(gateway: Gateway) -> None:
    page = gateway.get("/")
    assert (page.status, page.headers.get_content_type()) == (200, "text/html")
    assert "connect-src 'self'" in page.headers["Content-Security-Policy"]
    assert "http" not in page.text  # no address but those of this gateway


@pytest.mark.skipif(CHROMIUM is None, reason="this machine has no Chromium")
def test_a_browser_shows_what_happens(gateway: Gateway, server: RunningServer, tmp_path: Path) -> None:
    install_packages(tmp_path, "look_at_page.mjs")
    pictures = os.environ.get("PAGE_PICTURES", "")
    arguments = [f"{gateway.url}/", CHROMIUM, KEY, PROMPT, SUFFIX, f"# small: stall\n{BODY}", pictures]
    said = json.loads(run(["node", "look_at_page.mjs", *arguments], tmp_path))
    assert said["refused"].startswith("Failed: the API key is missing or unknown")
    assert (said["problems"], said["addresses"]) == ([], [gateway.url])

    whole = said["whole"]
    assert whole["status"] == "Answered by large with the plan two."
    small, large = whole["tiers"]
    assert small.startswith("small\nnot good enough")
    assert "Why: score 0.000 < threshold 1.0" in small
    assert large.startswith("large\naccepted")
    assert "by 6 tests" in large
    assert whole["bars"][:2] == ["score 0 %, threshold 100 %", "score 100 %, threshold 100 %"]
    assert whole["answer"].startswith(PROMPT)
    assert whole["answer"].endswith("return a + b\n")
    assert "This request: $0.000192" in whole["cost"]
    assert "large alone: $0.000210" in whole["cost"]

    infill = said["infill"]
    assert "log-probability" in infill["tiers"][0]
    assert infill["answer"].endswith(f"return a + b{SUFFIX}")
    assert "does not say what large costs between two texts" in infill["cost"]

    (tested,) = said["tested"]["tiers"]
    assert "score 100 % by 2 tests" in tested
    assert said["tested"]["bars"][0] == "score 100 %, threshold 100 %"
    assert {said[name]["wide"] for name in ("whole", "infill", "tested")} == {0}  # nothing to scroll sideways
    asyncio.run(eventually(lambda: metric(server, 'scripted_stopped_calls{tier="small"}') >= 1, within_s=4.0))
