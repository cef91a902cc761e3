"""Recordings drawn from a seed: random verdicts, tokens, seconds and truth, no texts worth reading; all of it has a price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from codecascade.types import LogProbs, Verdict, VerdictMatrix
from codecascade_client.recording.recording import (
    GREEDY,
    Draw,
    Judged,
    JudgedGiven,
    RecordedSample,
    RecordingManifest,
    SampleRecording,
    Unit,
)
from numpy.typing import NDArray

PRICES_PER_MTOK = {"small": 1.0, "medium": 3.7, "large": 11.3}
PROMPT_SHARE = 0.23  # of a tier's price, for a token that it reads
SANDBOX_PRICE_PER_CPU_S = 1.1e-5
K = 3
LINES = 2  # asked for; each can be cut after one


def manifest(tasks: int, prices_per_mtok: Mapping[str, float]) -> RecordingManifest:
    return RecordingManifest(
        family="tiny",
        dataset={"name": "tiny", "sha256": "0" * 64, "task_ids": [f"t/{n}" for n in range(tasks)]},
        tiers={
            tier: {"price_per_mtok": price, "prompt_price_per_mtok": PROMPT_SHARE * price}
            for tier, price in prices_per_mtok.items()
        },
        settings={"k": K},
        provenance={},
        sandbox_price_per_cpu_s=SANDBOX_PRICE_PER_CPU_S,
    )


def recording(
    seed: int, *, tasks: int = 4, runs: int = 2, prices_per_mtok: Mapping[str, float] = PRICES_PER_MTOK
) -> SampleRecording:
    """Later tiers are right more often. Some test samples hold fewer lines than were asked for, some none."""
    rng = np.random.default_rng(seed)
    draws: dict[Unit, Draw] = {}
    judged: dict[tuple[Unit, int], Judged] = {}
    correct = {}
    for skill, tier in enumerate(prices_per_mtok, start=1):
        for task in range(tasks):
            for run in (GREEDY, *range(runs)):
                unit = Unit(tier, f"t/{task}", run)
                k = 1 if run == GREEDY else K
                draws[unit] = Draw(tuple(_solution(rng) for _ in range(k)), {LINES: tuple(_tests(rng) for _ in range(k))})
                judged[unit, LINES] = _judged(rng, k)
                correct[unit] = rng.random(k) < skill / (len(prices_per_mtok) + 1)
    broken = {unit: tuple(sample.completion_tokens % 11 == 0 for sample in draw.solutions) for unit, draw in draws.items()}
    given = _given(seed, draws, correct)
    return SampleRecording(manifest(tasks, prices_per_mtok), draws, judged, correct, broken=broken, given=given)


def without_log_probs(recording: SampleRecording) -> SampleRecording:
    draws = {}
    for unit, draw in recording.draws.items():
        draws[unit] = replace(draw, solutions=tuple(replace(sample, log_probs=None) for sample in draw.solutions))
    return replace(recording, draws=draws)


def _given(seed: int, draws: Mapping[Unit, Draw], correct: Mapping[Unit, NDArray[np.bool_]]) -> dict[Unit, JudgedGiven]:
    """Every third task comes without tests. What is right passes more of them. No draw of the other generator."""
    rng = np.random.default_rng([seed, 1])
    given = {}
    for unit, draw in draws.items():
        lines, k = int(unit.task.rpartition("/")[2]) % 3, len(draw.solutions)
        passes = rng.random((k, lines)) < np.where(correct[unit], 0.9, 0.4)[:, None]
        matrix = VerdictMatrix(np.where(passes, Verdict.PASS, Verdict.FAIL).astype(np.int8), rng.random(k) / 9)
        given[unit] = JudgedGiven(matrix, tuple(f"assert {n}" for n in range(lines)), "")
    return given


def _solution(rng: np.random.Generator) -> RecordedSample:
    tokens, prompt_tokens = int(rng.integers(1, 200)), int(rng.integers(9, 99))
    reason = "stop" if tokens % 7 else "length"  # no draw of its own, as what follows
    log_probs = LogProbs(-float(tokens % 13), -1.0, tokens) if tokens % 5 else None
    text = f"program {rng.integers(1 << 30)}"
    return RecordedSample(text, tokens, prompt_tokens=prompt_tokens, finish_reason=reason, log_probs=log_probs)


def _tests(rng: np.random.Generator) -> RecordedSample:
    first, second = sorted(rng.integers(1, 60, 2).tolist())
    return RecordedSample(
        "assert …", second, asked_lines=LINES, line_tokens=(first, second), prompt_tokens=int(rng.integers(5, 55))
    )


def _judged(rng: np.random.Generator, k: int) -> Judged:
    places = [(sample, number) for sample in range(k) for number in range(1, LINES + 1) if rng.random() < 0.7]
    line_samples, line_numbers = zip(*places, strict=True) if places else ((), ())
    verdicts = (rng.random((k, len(places))) < rng.choice([0.1, 0.5, 1.0])).astype(np.int8)
    return Judged(VerdictMatrix(verdicts, rng.random(k) / 9), ("assert …",) * len(places), line_samples, line_numbers, "")
