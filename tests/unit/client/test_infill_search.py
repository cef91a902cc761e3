"""Steps for infills, searched on synthetic recordings whose small tier knows when it is right."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from codecascade.plans import load_plans
from codecascade.types import LogProbs, Plan, PlanStep, VerdictMatrix
from codecascade_client.errors import RecordingError
from codecascade_client.recording.recording import (
    GREEDY,
    Draw,
    JudgedGiven,
    RecordedSample,
    Recording,
    RecordingManifest,
    SampleRecording,
    Unit,
)
from codecascade_client.replay.plans import check_same, replay_plan
from codecascade_client.replay.table import tabulate
from codecascade_client.search.infills import GRID, search_infills, split_sources, with_infills
from codecascade_client.search.search import Rules, search

from tests.unit.client import synthetic_recordings

TASKS = [f"t/{source}/{kind}" for source in range(40) for kind in ("single-line", "multi-line", "random-span")]
RULES = Rules(GRID, 0.9, split_seed=0, splits=2, value_usd=1.0)
NAMES = {"balanced", "accurate", "fast", "worth-1", "large-alone", "valued"}
PLANS = {
    "format": 1,
    "family": "tiny",
    "provenance": {"dataset": {"name": "tiny", "sha256": "0" * 64}},
    "default": "balanced",
    "plans": {name: {"steps": [{"tier": "large", "k": 0}]} for name in NAMES},
}


def recording(seed: int, tasks: list[str] = TASKS) -> SampleRecording:
    """The large tier is right 9 times of 10, the small one 2 times of 3, and nearly always where it is sure."""
    rng = np.random.default_rng(seed)
    draws, correct, given = {}, {}, {}
    for tier, share, tokens in (("small", 2 / 3, 10), ("large", 0.9, 10)):
        for task in tasks:
            right = bool(rng.random() < share)
            log_prob = -float(rng.exponential(0.5 if right else 4.0)) - 0.01
            unit = Unit(tier, task, GREEDY)
            draws[unit] = Draw((RecordedSample("x", tokens, prompt_tokens=50, log_probs=LogProbs(log_prob, log_prob, 1)),), {})
            correct[unit] = np.array([right])
            given[unit] = JudgedGiven(VerdictMatrix(np.zeros((1, 0), np.int8), np.zeros(1)), (), "")
    manifest = RecordingManifest(
        family="tiny",
        dataset={"name": "infill:tiny", "sha256": "1" * 64, "task_ids": tasks},
        tiers={"small": {"price_per_mtok": 1.0}, "large": {"price_per_mtok": 4.0}},
        settings={"k": 3},
        provenance={},
    )
    return SampleRecording(manifest, draws, {}, correct, given=given)


def test_infills_of_one_solution_are_on_one_side() -> None:
    parts = split_sources(TASKS, seed=3)
    sides = [{task.rpartition("/")[0] for task in side} for side in (parts.validation, parts.test)]
    assert sides[0].isdisjoint(sides[1])
    assert (len(parts.validation), len(parts.test)) == (36, 84)


def test_the_small_tier_is_left_where_it_is_not_sure() -> None:
    found = search_infills([recording(0)], split_seed=0)
    for value in found.best.values:
        steps = found.best.at(value)
        assert all(step.k == 0 for step in steps)
    cascade = next(steps for steps in found.best.steps if len(steps) == 2)
    assert [step.tier for step in cascade] == ["small", "large"]
    alone = found.measured((PlanStep("large", k=0),))
    measured = found.measured(cascade)
    assert measured["usd_per_1000"]["mean"] < alone["usd_per_1000"]["mean"]
    assert measured["reach"]["large"] < 1.0


async def test_a_plan_file_gets_the_steps_and_replays_as_it_promises(tmp_path: Path) -> None:
    recorded: Recording = recording(1)
    found = search_infills([recorded], split_seed=0)
    path = tmp_path / "tiny.json"
    path.write_text(with_infills(json.dumps(PLANS), [recorded], RULES))
    plans, data = load_plans(path), json.loads(path.read_text())
    assert {name for name, plan in plans.plans.items() if plan.infill_steps} == NAMES - {"large-alone"}
    assert plans.plans["valued"].infill_steps == found.best.steps[-1], "a dollar is worth the most accurate steps"
    check_same(plans, recorded)
    replayed = await replay_plan(plans.plans["balanced"], recorded, found.held_out.tasks, found.held_out.runs)
    promised = data["plans"]["balanced"]["infill_held_out"]
    assert replayed.right / replayed.cells == pytest.approx(promised["accuracy"]["mean"], abs=1e-6)
    assert 1000 * replayed.cost_usd == pytest.approx(promised["usd_per_1000"]["mean"], abs=1e-6)
    assert set(data["provenance"]["infills"]["alone"]) == {"small", "large"}


def test_an_answer_that_does_not_fit_is_never_accepted() -> None:
    sure = recording(2)
    broken = replace(sure, broken={unit: (unit.tier == "small",) for unit in sure.draws})
    found = search_infills([broken], split_seed=0)
    assert tabulate(broken).whole[0].any() == np.False_
    plan = Plan(
        "any", (PlanStep("large", k=0),), infill_steps=(PlanStep("small", k=0, accept_log_prob=-1e3), PlanStep("large", k=0))
    )
    assert found.measured(plan.infill_steps)["reach"]["large"] == 1.0


def test_infills_are_not_searched_as_solutions() -> None:
    with pytest.raises(RecordingError, match="the recordings hold infills alone, must hold solutions too"):
        search([recording(0)], RULES)
    solutions = synthetic_recordings.recording(0, tasks=12)
    assert search([solutions, recording(0)], RULES).manifests == (solutions.manifest,)
    assert with_infills("{}", [solutions], RULES) == "{}"
