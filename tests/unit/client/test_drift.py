"""`codecascade drift` over what servers count: files and URLs, added up, since a moment, across restarts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from codecascade.drift import COST_BUCKETS_USD
from codecascade_client.cli.drift import DRIFTED
from codecascade_client.cli.main import app
from codecascade_client.live.drift import grown, read_totals, seen_of
from typer.testing import CliRunner, Result

COST_USD = 1e-4  # of every request here


def metrics(requests: int, large: int, plan: str = "two") -> str:
    """What a server tells that has answered so many requests, of which so many reached the large tier."""
    small = f'plan="{plan}",tier="small"'
    lines = [
        "# TYPE codecascade_requests_total counter",
        f'codecascade_requests_total{{plan="{plan}",outcome="answered"}} {requests}',
        f'codecascade_requests_total{{plan="{plan}",outcome="cancelled"}} 1000',
        "# TYPE codecascade_decisions_total counter",
        f'codecascade_decisions_total{{{small},decision="accept",outcome="answered"}} {requests - large}',
        f'codecascade_decisions_total{{{small},decision="escalate",outcome="answered"}} {large}',
        f'codecascade_decisions_total{{plan="{plan}",tier="large",decision="accept",outcome="answered"}} {large}',
        f'codecascade_decisions_total{{plan="{plan}",tier="large",decision="abandoned",outcome="cancelled"}} 1000',
        "# TYPE codecascade_score_ratio histogram",
        f'codecascade_score_ratio_count{{{small},evidence="given_tests"}} {requests - 2}',
        f'codecascade_score_ratio_bucket{{{small},evidence="given_tests",le="0.99"}} {large - 2}',
        f'codecascade_score_ratio_count{{{small},evidence="own_tests"}} 2',
        f'codecascade_score_ratio_bucket{{{small},evidence="own_tests",le="0.99"}} 2',
        *histogram("codecascade_request_cost_usd", f'plan="{plan}"', requests),
        *histogram("codecascade_step_cost_usd", small, requests),
        "# TYPE codecascade_requests_in_flight gauge",
        'codecascade_requests_in_flight{model="cascade"} 3',
    ]
    return "\n".join(lines) + "\n"


def histogram(name: str, labels: str, count: int) -> list[str]:
    """Of so many costs of COST_USD."""
    buckets = [f'{{{labels},le="{end}"}} {count if end >= COST_USD else 0}' for end in (*COST_BUCKETS_USD, float("+inf"))]
    totals = [f"{name}_count{{{labels}}} {count}", f"{name}_sum{{{labels}}} {count * COST_USD}"]
    return [f"# TYPE {name} histogram", *totals, *(f"{name}_bucket{bucket}" for bucket in buckets)]


@pytest.fixture
def plans(tmp_path: Path) -> Path:
    figures = {"mean": 0.1, "low": 0.08, "high": 0.12}
    steps = [{"tier": "small", "k": 1, "lines_per_sample": 2, "threshold": 0.5}, {"tier": "large", "k": 0}]
    promise = {"usd_per_1000": figures, "accuracy": figures, "reach": {"small": 1.0, "large": 0.3}}
    document: dict[str, Any] = {
        "format": 1,
        "family": "f",
        "provenance": {"split": {"held_out_tasks": 100}},
        "default": "two",
        "plans": {"two": {"steps": steps, "held_out": promise}, "by-hand": {"steps": steps}},
    }
    path = tmp_path / "plans.json"
    path.write_text(json.dumps(document))
    return path


def saved(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


@contextmanager
def serving(texts: Sequence[str]) -> Iterator[str]:
    """A /metrics that tells one text after another, and then the last one again and again."""
    left = list(texts)

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write((left.pop(0) if len(left) > 1 else left[0]).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()


def drift(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["drift", *map(str, arguments)])


def test_what_a_plan_did_is_read_from_answered_requests_alone(tmp_path: Path) -> None:
    seen = seen_of("two", read_totals(str(saved(tmp_path, "m", metrics(20, 6)))))
    did = {tier: (seen.tiers[tier].asked, seen.tiers[tier].accepted) for tier in seen.tiers}
    assert (seen.requests, did) == (20, {"small": (20, 14), "large": (6, 6)})
    assert (seen.tiers["small"].given_tests, seen.tiers["small"].full_score) == (18, 14)
    for costs in (seen.costs, seen.tiers["small"].costs):
        assert costs.usd == pytest.approx(20 * COST_USD)
        assert [(end, count) for end, count in zip(COST_BUCKETS_USD, costs.counts, strict=False) if count] == [(COST_USD, 20)]


@pytest.mark.parametrize(("large", "code"), [(60, 0), (190, DRIFTED), (2, DRIFTED)])
def test_the_exit_code_says_whether_the_promise_holds(plans: Path, tmp_path: Path, large: int, code: int) -> None:
    result = drift(plans, "--metrics", saved(tmp_path, "m", metrics(200, large)))
    assert result.exit_code == code
    assert ("drifted" in result.stdout) == bool(code)
    assert "requests that ask large" in result.stdout


def test_a_smaller_rate_of_false_alarms_needs_more_evidence(plans: Path, tmp_path: Path) -> None:
    source = saved(tmp_path, "m", metrics(60, 42))
    assert drift(plans, "--metrics", source, "--rate", 0.2).exit_code == DRIFTED
    assert drift(plans, "--metrics", source, "--rate", 0.0001).exit_code == 0


def test_servers_are_added_up_and_what_came_before_is_left_out(plans: Path, tmp_path: Path) -> None:
    early, late = saved(tmp_path, "early", metrics(100, 95)), saved(tmp_path, "late", metrics(130, 104))
    other = saved(tmp_path, "other", metrics(40, 12))
    assert drift(plans, "--metrics", late, "--metrics", other).exit_code == DRIFTED
    since = drift(plans, "--metrics", late, "--since", early)
    assert (since.exit_code, " 30 " in since.stdout) == (0, True)


def test_a_server_that_began_anew_counts_from_nothing(tmp_path: Path) -> None:
    before, after = (read_totals(str(saved(tmp_path, f"{count}", metrics(count, 6)))) for count in (100, 20))
    assert seen_of("two", grown(before, after)).requests == 20
    assert seen_of("two", grown(after, before)).requests == 80


def test_it_reads_again_until_there_is_an_alarm(plans: Path) -> None:
    with serving([metrics(100, 30), metrics(20, 6), metrics(300, 280)]) as url:
        result = drift(plans, "--metrics", url, "--every", 1)
    assert result.exit_code == DRIFTED
    assert [word for line in result.stdout.splitlines() if "ask large" in line for word in line.split() if word.isdigit()] == [
        *("100", "120", "400")
    ]


def test_nothing_answered_yet_is_no_drift(plans: Path, tmp_path: Path) -> None:
    result = drift(plans, "--metrics", saved(tmp_path, "m", metrics(5, 2, plan="another")))
    assert (result.exit_code, result.stdout.strip()) == (0, "No plan that promises something has answered a request yet.")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nv_gpu_power_usage 3\n", "have no series codecascade_…, must be those of a server with the cascade"),
        ("<html>", "cannot be read"),
        (metrics(20, 6).replace('le="0.0001"', 'le="0.0003"'), "codecascade_request_cost_usd has buckets up to"),
    ],
)
def test_what_is_no_metrics_of_a_cascade_gets_a_sentence(plans: Path, tmp_path: Path, text: str, sentence: str) -> None:
    result = drift(plans, "--metrics", saved(tmp_path, "m", text))
    assert sentence in str(result.exception)


def test_an_unreachable_server_and_a_plan_without_a_promise_get_a_sentence(plans: Path) -> None:
    assert "metrics of http://127.0.0.1:1/metrics cannot be read" in str(
        drift(plans, "--metrics", "http://127.0.0.1:1/metrics").exception
    )
    assert str(drift(plans, "--plan", "by-hand").exception) == "plans by-hand promise nothing: they were not searched"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--rate", 0), "--rate is 0.0, must be above 0 and below 1"),
        (("--since", "m", "--since", "m"), "must be as often as --metrics"),
    ],
)
def test_a_wrong_command_says_so(plans: Path, tmp_path: Path, options: tuple[object, ...], sentence: str) -> None:
    result = drift(plans, "--metrics", saved(tmp_path, "m", metrics(1, 1)), *options)
    assert result.exit_code == 2
    assert sentence in " ".join(result.output.replace("│", "").split())
