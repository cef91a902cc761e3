"""The sandbox: runs generated programs against test lines and reports what happened. The programs can do nothing else.

At every level a program cannot: reach a network or a local socket; read or write outside the standard library, the packages
that are offered, the time zones and (at the level `namespaces`) a scratch folder that is wiped; start a process or a thread;
signal or trace another process; see the environment; use more than its limits; leave anything behind for the next program. At
start-up, probes must show that one of the levels holds.

A program cannot forge the verdict of a line that is judged blind: the expected value never enters its process, and its value
comes out as what it is (zygote/describe.py). Where only the program's own code could say how a value compares, a class with an
`__eq__`, `__lt__` or `__contains__` of its own, the line fails; whether it is true, None or an int is known. A line that runs
whole (tick mode) is protected against accidents and tricks, not against a program that is written to subvert this runner.

What works, with the reason where it does not:
- Event loops (asyncio.run): yes. Their pair of connected sockets reaches nothing but itself. At `sealed`, no signal handlers.
- Threads: no. What a thread does depends on how busy the machine is, and so would the verdicts. Locks and queues work;
  `asyncio.to_thread` and executors do not.
- multiprocessing and subprocess: no, processes are how a program would outlive its limits.
- sqlite3: in memory. A database in a file needs locks on it, which other processes could see.
- zoneinfo: where the machine has the data and files can be read, so not at `sealed`. Local time is UTC.
- Codecs: all of the library's.
- The library: what `offers` says. At `sealed`, no extension module that is not loaded beforehand (cProfile, termios).
- Packages that a deployment lists (numpy): they are loaded before the lock-down. One that starts threads is refused;
  numpy's calculations have one. At `sealed`, a module that its package does not load by itself cannot be imported.

Not hidden: at the level `landlock` whether a path exists and how large it is, which Landlock does not cover. There the
folders of the library and of the packages are open (O_PATH, from descriptor 4 on), since imports go through them: their own
paths may lead through a home that the sandbox's user cannot enter. Not protected against: kernel bugs in the hundred or so
system calls that stay allowed.
"""

from codecascade.sandbox.limits import Limits
from codecascade.sandbox.modules import offers
from codecascade.sandbox.pool import SandboxPool
from codecascade.sandbox.probes import LEVELS, LevelReport, probe_levels

__all__ = ["LEVELS", "LevelReport", "Limits", "SandboxPool", "offers", "probe_levels"]
