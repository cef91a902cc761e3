"""The sandbox: runs generated programs against test lines and says what happened, without letting them do anything else."""

from codecascade.sandbox.limits import Limits
from codecascade.sandbox.pool import SandboxPool

__all__ = ["Limits", "SandboxPool"]
