"""What the supervisor knows about its server, as JSON for probes and as metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

SERVER = "(server)"
"""Stands for Triton itself where a model is named."""
REASONS = {"ended": "its process ended", "hung": "it did not answer"}


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the server must be started again."""

    model: str
    """Or SERVER."""
    reason: str
    """A key of REASONS."""

    def __str__(self) -> str:
        who = "Triton" if self.model == SERVER else f"Model {self.model}"
        return f"{who}: {REASONS[self.reason]}"


@dataclass
class State:
    """Written by the supervisor, read by the threads that answer probes."""

    phase: str = "starting"
    """starting, serving, restarting, stopping or failed."""
    trouble: Trouble | None = None
    """The latest."""
    models: dict[str, str | None] = field(default_factory=dict)
    """Why a Python model is not well; None: it is."""
    restarts: Counter[Trouble] = field(default_factory=Counter)
    recoveries: int = 0
    recovery_s: float = 0.0
    """From noticing the trouble until the server was ready again, summed."""

    def serving(self, models: Iterable[str]) -> None:
        """The server is ready and has these Python models."""
        self.phase = "serving"
        self.models = dict.fromkeys(models)
        for model in (SERVER, *self.models):
            for reason in REASONS:
                self.restarts[Trouble(model, reason)] += 0

    def restarting(self, trouble: Trouble) -> None:
        self.phase, self.trouble = "restarting", trouble
        self.restarts[trouble] += 1

    def recovered(self, recovery_s: float) -> None:
        self.recoveries += 1
        self.recovery_s += recovery_s

    def failed(self, trouble: Trouble) -> None:
        self.phase, self.trouble = "failed", trouble
        if trouble.model in self.models:
            self.models[trouble.model] = REASONS[trouble.reason]

    @property
    def ready(self) -> bool:
        return self.phase == "serving" and not any(self.models.values())

    @property
    def live(self) -> bool:
        """Whether it may still become ready."""
        return self.phase != "failed"

    def document(self) -> dict[str, Any]:
        otherwise = None if self.phase == "serving" else f"the server is {self.phase}"
        reasons = {name: why or otherwise for name, why in sorted(self.models.items())}
        models = {name: {"ready": reason is None, "reason": reason} for name, reason in reasons.items()}
        trouble = str(self.trouble) if self.trouble else None
        return {"ready": self.ready, "phase": self.phase, "latest_trouble": trouble, "models": models}

    def metrics(self) -> str:
        """Prometheus's text format."""
        up = {name: int(self.phase == "serving" and why is None) for name, why in self.models.items()}
        restarts = sorted(self.restarts.items(), key=lambda item: (item[0].model, item[0].reason))
        return "\n".join(
            [
                "# HELP codecascade_ready Whether the server and all of its models answer.",
                "# TYPE codecascade_ready gauge",
                f"codecascade_ready {int(self.ready)}",
                "# HELP codecascade_model_up Whether the process of a Python model lives and answers.",
                "# TYPE codecascade_model_up gauge",
                *(f'codecascade_model_up{{model="{name}"}} {value}' for name, value in sorted(up.items())),
                "# HELP codecascade_server_restarts_total Restarts of the server, by the model that caused them.",
                "# TYPE codecascade_server_restarts_total counter",
                *(f'codecascade_server_restarts_total{{model="{t.model}",reason="{t.reason}"}} {n}' for t, n in restarts),
                "# HELP codecascade_server_recovery_seconds Time from noticing a dead process until the server was ready again.",
                "# TYPE codecascade_server_recovery_seconds summary",
                f"codecascade_server_recovery_seconds_sum {self.recovery_s:.3f}",
                f"codecascade_server_recovery_seconds_count {self.recoveries}",
                "",
            ]
        )
