"""The sandbox: runs generated programs against test lines and says what happened, without letting them do anything else."""

from codecascade.sandbox.limits import Limits
from codecascade.sandbox.pool import SandboxPool
from codecascade.sandbox.probes import LEVELS, LevelReport, probe_levels

__all__ = ["LEVELS", "LevelReport", "Limits", "SandboxPool", "probe_levels"]
