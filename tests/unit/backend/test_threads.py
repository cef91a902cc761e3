"""How the threads of nested calls are shared out: whatever one model holds, the others keep theirs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from codecascade.errors import DeploymentError
from codecascade.triton.calls.threads import FOR_CALLS, NESTED_CALLS, shares

START_SCRIPT = Path(__file__).parents[3] / "build" / "images" / "codecascade-triton"


@pytest.mark.parametrize(
    "limits",
    [
        {"small": None, "large": None, "sandbox": 64},
        {"small": 2, "large": 2, "sandbox": 64},
        {"small": 1100, "large": None, "sandbox": 64},
        {"sandbox": FOR_CALLS},
    ],
    ids=str,
)
def test_all_models_together_get_no_more_threads_than_there_are(limits: dict[str, int | None]) -> None:
    shared = shares(limits)
    assert sum(threads for _, threads in shared.values()) <= FOR_CALLS < NESTED_CALLS
    assert all(threads >= calls == (limits[name] or calls) for name, (calls, threads) in shared.items())


def test_without_limits_more_than_1000_calls_are_under_way() -> None:
    assert sum(calls for calls, _ in shares({"small": None, "large": None, "sandbox": 64}).values()) > 1_000


def test_a_model_with_few_calls_can_lose_many_to_a_process_that_dies() -> None:
    calls, threads = shares({"small": 2, "large": 2, "sandbox": 64})["small"]
    assert threads > 100 * calls


@pytest.mark.parametrize(
    "limits", [{"small": 1200, "sandbox": 64}, {"small": FOR_CALLS - 64, "large": None, "sandbox": 64}], ids=str
)
def test_limits_that_cannot_be_kept_are_refused(limits: dict[str, int | None]) -> None:
    with pytest.raises(DeploymentError, match=f"together, must be {FOR_CALLS} or fewer"):
        shares(limits)


def test_the_image_starts_triton_with_as_many_threads() -> None:
    assert re.findall(r"thread-pool-size=(\d+)", START_SCRIPT.read_text()) == [str(NESTED_CALLS)]
