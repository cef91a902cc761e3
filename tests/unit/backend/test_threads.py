"""How the threads of nested calls are shared out: whatever one model holds, the others keep theirs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from codecascade.errors import DeploymentError
from codecascade.triton.calls.threads import FEW, KEPT, VARIABLE, pool_size, shares

MANY = 1280
START_SCRIPT = Path(__file__).parents[3] / "build" / "images" / "codecascade-triton"


@pytest.mark.parametrize(
    "limits",
    [
        {"small": None, "large": None, "sandbox": 64},
        {"small": 2, "large": 2, "sandbox": 64},
        {"small": 1100, "large": None, "sandbox": 64},
        {"sandbox": MANY - KEPT},
    ],
    ids=str,
)
def test_all_models_together_get_no_more_threads_than_there_are(limits: dict[str, int | None]) -> None:
    shared = shares(limits, MANY)
    assert sum(threads for _, threads in shared.values()) <= MANY - KEPT
    assert all(threads >= calls == (limits[name] or calls) for name, (calls, threads) in shared.items())


def test_models_without_limits_share_what_there_is() -> None:
    limits = {"small": None, "large": None, "sandbox": 64}
    assert shares(limits, FEW) == {"small": (80, 80), "large": (80, 80), "sandbox": (64, 64)}
    assert sum(calls for calls, _ in shares(limits, MANY).values()) > 1_000


def test_a_model_with_few_calls_can_lose_many_to_a_process_that_dies() -> None:
    calls, threads = shares({"small": 2, "large": 2, "sandbox": 64}, FEW)["small"]
    assert threads > 10 * calls


@pytest.mark.parametrize("limits", [{"small": 200, "sandbox": 64}, {"small": 160, "large": None, "sandbox": 64}], ids=str)
def test_limits_that_cannot_be_kept_are_refused(limits: dict[str, int | None]) -> None:
    with pytest.raises(DeploymentError, match=rf"must be 22[34] or fewer; {VARIABLE} makes room for more"):
        shares(limits, FEW)


def deployment(folder: Path, *tiers: dict[str, Any]) -> Path:
    common = {"style": "base", "context_tokens": 9, "max_completion_tokens": 9, "price_per_mtok": 1.0}
    document = {"format": 1, "family": "f", "plans": "p.json", "tiers": [{**common, **tier} for tier in tiers]}
    (folder / "d.json").write_text(json.dumps(document))
    return folder / "d.json"


def test_a_server_has_the_threads_that_its_deployment_needs(tmp_path: Path) -> None:
    few, more, open_ended = ({"name": "a", "max_in_flight": calls} for calls in (2, 200, None))
    assert pool_size({}, None) == pool_size({}, deployment(tmp_path, few)) == FEW
    assert pool_size({}, deployment(tmp_path, few, {**more, "name": "b"})) == 2 * FEW
    assert pool_size({}, deployment(tmp_path, {**more, "max_in_flight": 1100})) == 5 * FEW
    assert pool_size({}, deployment(tmp_path, {**more, "url": "far:1"}, {**more, "name": "b", "url": "far:1"})) == FEW
    assert pool_size({}, deployment(tmp_path, open_ended)) == FEW
    assert pool_size({VARIABLE: "77"}, deployment(tmp_path, open_ended)) == 77
    assert pool_size({VARIABLE: ""}, deployment(tmp_path, few)) == FEW


def test_a_deployment_that_cannot_be_read_is_for_the_cascade_to_name(tmp_path: Path) -> None:
    assert pool_size({}, tmp_path / "none.json") == FEW


def test_the_image_starts_triton_with_as_many_threads() -> None:
    assert re.findall(r"thread-pool-size=([^\"\s]+)", START_SCRIPT.read_text()) == [f"${{{VARIABLE}:-{FEW}}}"]
