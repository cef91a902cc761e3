"""The `sandbox` model: request tensors → SandboxPool → response tensors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from codecascade.deployment import load_deployment
from codecascade.sandbox import SandboxPool
from codecascade.triton.metrics import Counters, Totals
from codecascade.triton.models.base import ServedModel
from codecascade.triton.parameters import Parameters
from codecascade.triton.sandbox_contract import matrix_arrays
from codecascade.triton.settings import ServerSettings, read_server_settings
from codecascade.triton.tensors import Inputs, tensor
from codecascade.types import Candidate, TestLine, Verdict, VerdictMatrix


class TritonPythonModel(ServedModel):
    """Loaded by Triton. Start-up fails with a sentence for each isolation level if this machine gives none."""

    guarded = True

    def start(self, parameters: Parameters) -> None:
        settings = read_server_settings()
        workers = parameters.integer("workers", low=0) if settings.sandbox_workers is None else settings.sandbox_workers
        level = settings.sandbox_level or parameters.text("level")
        self._pool = SandboxPool(workers or len(os.sched_getaffinity(0)), level, modules=_modules(settings))
        self.serving.run(self._pool.start())
        self._metrics = _Metrics(self._pool)
        self.count(self._metrics.families)

    async def answer(self, request: Any) -> list[Any]:
        inputs = Inputs(request)
        del request  # gives back its shared memory, which Triton never makes smaller again
        candidates = [Candidate(source) for source in inputs.texts("candidates")]
        matrix = await self._pool.run(candidates, [TestLine(source) for source in inputs.texts("test_lines")])
        self._metrics.judged(matrix)
        return [tensor(name, array) for name, array in matrix_arrays(matrix).items()]

    async def stop(self) -> None:
        await self._pool.close()


def _modules(settings: ServerSettings) -> Sequence[str]:
    """The packages to offer. A sandbox on a server of its own has no deployment file. Raises DeploymentError."""
    if settings.sandbox_modules is not None:
        return [name.strip() for name in settings.sandbox_modules.split(",")]
    return load_deployment(settings.deployment).sandbox_modules if settings.deployment else ()


class _Metrics:
    def __init__(self, pool: SandboxPool) -> None:
        stats = pool.stats
        self._verdicts = Counters("codecascade_sandbox_verdicts_total", "Verdicts by kind", ["verdict"])
        self.families = [
            self._verdicts,
            Totals("codecascade_sandbox_runs_total", "Candidates judged", [], lambda: {(): stats.runs}),
            Totals("codecascade_sandbox_run_cpu_seconds_total", "CPU time of candidates", [], lambda: {(): stats.cpu_s}),
            Totals(
                "codecascade_sandbox_queue_seconds_total",
                "Wall time that candidates waited for a worker, summed",
                [],
                lambda: {(): stats.queue_s},
            ),
            Totals(
                "codecascade_sandbox_zygotes_started_total",
                "Interpreters started; above the workers: restarts",
                ["level"],
                lambda: {(pool.level,): stats.zygotes_started},
            ),
        ]

    def judged(self, matrix: VerdictMatrix) -> None:
        counts = np.bincount(matrix.verdicts.ravel(), minlength=len(Verdict))
        for verdict in Verdict:
            self._verdicts.add(int(counts[verdict]), verdict.name.lower())
