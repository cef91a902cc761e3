"""The sandbox: runs generated programs against test lines and says what happened, without letting them do anything else.

A program cannot, at any level: reach a network or a local socket, read or write outside the standard library and (at the level
`namespaces`) a scratch folder that is wiped, start a process or a thread, signal or trace another process, see the environment,
use more than its limits, or leave anything for the next program. At least one of the levels must be shown to hold at start-up.

A program cannot claim a verdict for a line that is judged blind: what is expected never enters its process. A line that runs
whole (tick mode) is guarded against accidents and tricks, not against a program that is written to take this runner apart.

Not hidden: at the level `landlock` whether a path exists and how large it is, which Landlock does not cover. Not guarded
against: faults of the kernel in the hundred or so system calls that are left.
"""

from codecascade.sandbox.limits import Limits
from codecascade.sandbox.pool import SandboxPool
from codecascade.sandbox.probes import LEVELS, LevelReport, probe_levels

__all__ = ["LEVELS", "LevelReport", "Limits", "SandboxPool", "probe_levels"]
