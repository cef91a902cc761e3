"""Infills from the dataset over a recording and its verdicts to the replay of a plan."""

import json
from pathlib import Path

import pytest
from codecascade.deployment import load_deployment
from codecascade.errors import InvalidRequest
from codecascade.sandbox import SandboxPool
from codecascade.tiers.contract import GenerateRequest, Generation
from codecascade.types import GivenStep, LogProbs, Plan, PlanStep, Sample
from codecascade_client.datasets.humaneval import BenchmarkTask
from codecascade_client.datasets.infills import infills
from codecascade_client.datasets.load import Dataset
from codecascade_client.errors import RecordingError
from codecascade_client.evidence.measure import ALL, measure
from codecascade_client.recording.judge import judge, unjudged
from codecascade_client.recording.record import RecordSettings, manifest_for, plan_units, record
from codecascade_client.recording.recording import GREEDY, Recording, Unit
from codecascade_client.recording.store import RecordingFolder, open_recording, resume_recording
from codecascade_client.replay.cascade import check_recorded, replay

from tests.unit.client.sums_deployment import write_deployment

SETTINGS = RecordSettings()
BODY = "    total = a + b\n    half = total / 2\n    return half\n"
TEST = "def check(candidate):\n    assert candidate(1, 3) == 2\n"
WITH_EXAMPLE = 'def mean(a, b):\n    """The mean.\n\n    >>> mean(2, 4)\n    3.0\n    """\n'
SOURCES = {
    "t/0": BenchmarkTask("t/0", "def mean(a, b):\n", "mean", BODY, TEST),
    "t/1": BenchmarkTask("t/1", WITH_EXAMPLE, "mean", BODY, TEST),
}
INFILLS = Dataset("infill:means", infills(SOURCES))
ONE_LINE = "t/0/single-line"
STEPS = (PlanStep("small", k=0, accept_log_prob=-1.0), PlanStep("large", k=0))
PLAN = Plan("fast", (PlanStep("large", 3, 2, 0.5),), (GivenStep("small", 9),), STEPS)
LIKELY, UNLIKELY = LogProbs(-0.5, -0.5, 4), LogProbs(-5.0, -3.0, 4)


async def write(request: GenerateRequest) -> Generation:
    """The large tier writes what is missing. The small one writes nonsense, which it finds unlikely, in place of a line."""
    before, after = request.text_input.removeprefix("<|fim_prefix|>").removesuffix("<|fim_middle|>").split("<|fim_suffix|>")
    infill = next(infill for infill in INFILLS.tasks.values() if (infill.prompt, infill.suffix) == (before, after))
    if request.tier == "small" and infill.kind == "single-line":
        return Generation((Sample("half = = 2", 4, log_probs=UNLIKELY),), prompt_tokens=9)
    return Generation((Sample(infill.canonical_solution, 4, log_probs=LIKELY),), prompt_tokens=9)


@pytest.fixture
def deployment_file(tmp_path: Path) -> Path:
    path = write_deployment(tmp_path)
    document = json.loads(path.read_text())
    for tier in document["tiers"]:
        tier["fim"] = "qwen2.5-coder"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
async def folder(tmp_path: Path, deployment_file: Path) -> RecordingFolder:
    """Recorded, not judged."""
    made = resume_recording(tmp_path / "recording", manifest_for(deployment_file, INFILLS, SETTINGS))
    units = plan_units(INFILLS, ["small", "large"], runs=2, split_seed=0, limit=None)
    deployment = load_deployment(deployment_file)
    await record(made, deployment, INFILLS, units, SETTINGS, write, concurrency=2, on_unit=lambda _: None)
    return made


@pytest.fixture
async def recording(folder: RecordingFolder) -> Recording:
    async with SandboxPool(workers=1) as pool:
        await judge(folder, INFILLS, unjudged(folder, INFILLS), pool, lambda _: None)
    return open_recording(folder.path).load()


async def test_an_infill_is_asked_for_once_and_without_tests(folder: RecordingFolder) -> None:
    draws = folder.draws()
    assert set(draws) == {Unit(tier, task, GREEDY) for tier in ("small", "large") for task in INFILLS.tasks}
    assert {(len(draw.solutions), len(draw.tests)) for draw in draws.values()} == {(1, 0)}


def test_a_tier_without_tokens_for_infills_is_not_recorded(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no tokens for fill-in-the-middle"):
        manifest_for(write_deployment(tmp_path), INFILLS, SETTINGS)


async def test_an_older_recording_that_does_not_name_the_tokens_is_resumed(tmp_path: Path, deployment_file: Path) -> None:
    made = resume_recording(tmp_path / "old", manifest_for(deployment_file, Dataset("sums", SOURCES), SETTINGS))
    manifest = json.loads((made.path / "manifest.json").read_text())
    for tier in manifest["tiers"].values():
        del tier["fim"]
    (made.path / "manifest.json").write_text(json.dumps(manifest))
    again = resume_recording(made.path, manifest_for(deployment_file, Dataset("sums", SOURCES), SETTINGS))
    assert again.path == made.path


def test_how_a_tier_is_served_is_no_part_of_a_recording(tmp_path: Path, deployment_file: Path) -> None:
    made = resume_recording(tmp_path / "begun", manifest_for(deployment_file, Dataset("sums", SOURCES), SETTINGS))
    served = json.loads(deployment_file.read_text())
    for tier in served["tiers"]:
        tier.update(max_in_flight=3, max_queue=7, timeout_s=9.0, url="elsewhere:8001")
    deployment_file.write_text(json.dumps(served))
    assert (
        resume_recording(made.path, manifest_for(deployment_file, Dataset("sums", SOURCES), SETTINGS)).manifest == made.manifest
    )


async def test_the_tests_of_the_source_judge_it(folder: RecordingFolder, recording: Recording) -> None:
    assert unjudged(folder, INFILLS) == {}
    for unit, truth in folder.truth().items():
        wrong = unit.tier == "small" and unit.task.endswith("single-line")
        assert (truth.verdicts.tolist() == [0]) is not wrong
        assert truth.broken == (wrong,)


async def test_a_plan_is_replayed_by_its_steps_for_infills(recording: Recording) -> None:
    check_recorded(PLAN, recording)
    outcomes = {task: await replay(PLAN, recording, task, 0) for task in INFILLS.tasks}
    assert all(outcome.correct for outcome in outcomes.values())
    assert {task for task, outcome in outcomes.items() if outcome.answer.tier == "large"} == {ONE_LINE, "t/1/single-line"}
    assert outcomes["t/0/multi-line"].answer.trace.steps[0].reason == "log-probability -0.50 ≥ -1.0"
    assert outcomes["t/1/multi-line"].answer.trace.steps[0].reason == "1 of 1 given tests pass"


async def test_a_plan_that_asks_what_was_not_recorded_is_refused(recording: Recording) -> None:
    plan = Plan("other", PLAN.steps, infill_steps=(PlanStep("medium", k=0),))
    with pytest.raises(RecordingError, match="names tier 'medium', which was not recorded"):
        check_recorded(plan, recording)


async def test_what_fits_is_evidence_that_is_measured(recording: Recording) -> None:
    (small,) = [measured for measured in measure(recording) if measured.tier == "small" and not measured.sampled]
    told = small.groups[ALL].told["whole, then sum"]
    assert (told.answers, told.auroc and told.auroc.mean) == (len(INFILLS.tasks), 1.0)
