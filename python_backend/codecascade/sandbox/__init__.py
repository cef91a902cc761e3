"""The sandbox: runs generated programs against test lines and reports what happened. The programs can do nothing else.

At every level a program cannot: reach a network or a local socket; read or write outside the standard library and (at the level
`namespaces`) a scratch folder that is wiped; start a process or a thread; signal or trace another process; see the environment;
use more than its limits; leave anything behind for the next program. At start-up, probes must show that one of the levels holds.

A program cannot forge the verdict of a line that is judged blind: the expected value never enters its process. A line that runs
whole (tick mode) is protected against accidents and tricks, not against a program that is written to subvert this runner.

Not hidden: at the level `landlock` whether a path exists and how large it is, which Landlock does not cover. Not protected
against: kernel bugs in the hundred or so system calls that stay allowed.
"""

from codecascade.sandbox.limits import Limits
from codecascade.sandbox.pool import SandboxPool
from codecascade.sandbox.probes import LEVELS, LevelReport, probe_levels

__all__ = ["LEVELS", "LevelReport", "Limits", "SandboxPool", "probe_levels"]
