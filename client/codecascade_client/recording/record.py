"""Record: ask every tier everything once, as a live cascade would."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from codecascade.deployment import Deployment, load_deployment
from codecascade.errors import CascadeError, InvalidRequest
from codecascade.texts.infills import asked_for
from codecascade.texts.prompts import tests_prompt
from codecascade.tiers.contract import Generate
from codecascade.tiers.live import TEMPERATURE, TOP_P, Answer, LiveTiers, both
from codecascade.types import PlanStep, Task

from codecascade_client.datasets.load import Dataset
from codecascade_client.datasets.split import split
from codecascade_client.recording.recording import GREEDY, Draw, RecordedSample, RecordingManifest, Unit
from codecascade_client.recording.store import RecordingFolder
from codecascade_client.together import together


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """What every unit is asked for."""

    k: int = 3  # solutions, and test samples
    lines_asked: int = 4  # of every test sample
    seed: int = 0  # run r has the seed `seed` + r


@dataclass(frozen=True, slots=True)
class Recorded:
    """One finished unit."""

    unit: Unit
    tokens: int  # generated for it


@dataclass(frozen=True, slots=True)
class Refused:
    """A unit that its tier refuses to answer."""

    unit: Unit
    reason: str


_RECORDED = (
    "style",
    "fim",
    "context_tokens",
    "max_completion_tokens",
    "price_per_mtok",
    "prompt_price_per_mtok",
    "weights_sha256",
)
"""What a tier's answers and their cost depend on, besides its prompts. How it is served does not matter."""


def manifest_for(
    deployment_file: Path, dataset: Dataset, settings: RecordSettings, runtime: str | None = None
) -> RecordingManifest:
    """The manifest of a recording of every tier of a deployment. runtime: another than the deployment's, for the provenance.

    Raises DeploymentError.
    """
    deployed = load_deployment(deployment_file)
    rendered = json.loads(deployment_file.read_text(encoding="utf-8"))
    tiers = {
        tier["name"]: {
            **{key: tier[key] for key in _RECORDED if key in tier},
            "prompts_sha256": _prompts_sha256(tier["style"], tier.get("fim"), dataset, settings.lines_asked),
        }
        for tier in rendered["tiers"]
    }
    return RecordingManifest(
        family=rendered["family"],
        dataset={"name": dataset.name, "sha256": dataset.sha256, "task_ids": list(dataset.tasks)},
        tiers=tiers,
        settings={
            "k": settings.k,
            "test_lines": settings.lines_asked,
            "seed": settings.seed,
            "temperature": TEMPERATURE,
            "top_p": TOP_P,
        },
        provenance={
            "runtime": runtime or rendered["runtime"],
            "begun": date.today().isoformat(),
            "codecascade": version("codecascade"),
        },
        sandbox_price_per_cpu_s=deployed.sandbox_price_per_cpu_s,
    )


def plan_units(dataset: Dataset, tiers: Sequence[str], *, runs: int, split_seed: int, limit: int | None) -> list[Unit]:
    """What to record, tier by tier. The validation tasks come first, so that a part of the recording is of use already.

    Of an infill nothing but the greedy answer: no plan asks for another.
    """
    ids = list(dataset.tasks)
    parts = split(ids, split_seed) if len(ids) > 1 else None
    ordered = [*parts.validation, *parts.test] if parts else ids
    return [
        Unit(tier, task, run)
        for tier in tiers
        for task in ordered[:limit]
        for run in (GREEDY, *range(0 if dataset.tasks[task].source else runs))
    ]


async def record(
    folder: RecordingFolder,
    deployment: Deployment,
    dataset: Dataset,
    units: Sequence[Unit],
    settings: RecordSettings,
    generate: Generate,
    *,
    concurrency: int,
    on_unit: Callable[[Recorded | Refused], None],
) -> None:
    """Ask for the units, `concurrency` at a time, and store every unit as soon as it is whole.

    Raises TierUnavailable, RecordingError. What was stored before is kept, and the rest can be asked for again.
    """
    waiting = iter(units)

    async def work() -> None:
        for unit in waiting:
            task = dataset.task(unit.task)
            try:
                draw = await _ask(unit, task, deployment, settings, generate)
            except InvalidRequest as error:
                on_unit(Refused(unit, str(error)))
                continue
            folder.add_draws({unit: draw})
            on_unit(Recorded(unit, tokens=_tokens(draw)))

    await together(work() for _ in range(concurrency))


async def _ask(unit: Unit, task: Task, deployment: Deployment, settings: RecordSettings, generate: Generate) -> Draw:
    """Let LiveTiers ask, as a live cascade does, and keep the texts."""
    seed = settings.seed if unit.run == GREEDY else settings.seed + unit.run
    step = PlanStep(unit.tier, 1 if unit.run == GREEDY else settings.k, settings.lines_asked)
    tiers = LiveTiers(deployment, generate, seed=seed)
    if task.infill:
        return Draw(await _recorded(tiers.solutions(task, PlanStep(unit.tier, k=0))), {})
    solutions, tests = await both(_recorded(tiers.solutions(task, step)), _recorded(tiers.tests(task, step)))
    if isinstance(tests, CascadeError):
        raise tests
    return Draw(solutions, {settings.lines_asked: tuple(replace(sample, asked_lines=settings.lines_asked) for sample in tests)})


async def _recorded(asked: Awaitable[Answer]) -> tuple[RecordedSample, ...]:
    started = time.perf_counter()
    answer = await asked
    latency_ms = (time.perf_counter() - started) * 1e3
    return tuple(
        RecordedSample(
            text=sample.text,
            completion_tokens=sample.completion_tokens,
            prompt_tokens=answer.generation.prompt_tokens,
            seed=answer.request.seed,
            temperature=answer.request.temperature,
            finish_reason=sample.finish_reason,
            line_tokens=sample.line_tokens,
            latency_ms=latency_ms,
            stop_word=sample.stop_word,
            continued_prompt_tokens=sample.continued_prompt_tokens,
            log_probs=sample.log_probs,
        )
        for sample in answer.generation.samples
    )


def _tokens(draw: Draw) -> int:
    return sum(sample.completion_tokens for samples in (draw.solutions, *draw.tests.values()) for sample in samples)


def _prompts_sha256(style: str, fim: str | None, dataset: Dataset, lines_asked: int) -> str:
    """A hash of every text and stop word that a tier of this style is sent."""
    digest = hashlib.sha256()
    for task in map(dataset.task, dataset.tasks):
        prompts = [asked_for(style, fim, task), *([] if task.infill else [tests_prompt(style, task, lines_asked)])]
        sent: Any = [(prompt.text, prompt.stop) for prompt in prompts]
        digest.update(json.dumps(sent).encode())
    return digest.hexdigest()
