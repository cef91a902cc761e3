"""The zygote: start up, lock down, then fork a child for each candidate that the parent sends."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import sys
import warnings
from contextlib import suppress
from itertools import pairwise
from typing import Any

from codecascade.sandbox.zygote import landlock, namespaces, privileges, protocol, seccomp, supervise, syscalls, system

# What most programs use; a child imports anything else of the library itself.
PREIMPORTED = syscalls.words(
    """
    abc bisect cmath collections collections.abc contextlib copy datetime enum functools heapq itertools json math numbers
    operator random re string struct sys time types typing zlib
    """
)
# At the level `sealed` no file can be opened, so programs can import only these and PREIMPORTED.
_SEALED = syscalls.words(
    """
    argparse array ast base64 binascii bz2 calendar colorsys csv dataclasses decimal difflib doctest fcntl fractions graphlib
    hashlib html inspect io ipaddress itertools keyword logging lzma os pathlib pprint queue sched secrets select shlex signal
    socket statistics textwrap threading timeit traceback unicodedata unittest uuid weakref
    """
)

_LIBRARY_FD = 4  # below supervise.FIRST_PRIVATE_FD, so children keep it: they import through it
# Sizes in Python's allocator. With another allocator, only _MAX_FILLINGS ends the filling of each size.
_POOL_BYTES, _POOL_HEADER_BYTES, _FLOAT_BYTES, _SMALL_BYTES, _MAX_FILLINGS = 1 << 14, 48, 32, 512, 1024
_fillers: list[object] = []
_WARM_UP = (
    "import math\ndef f(n: int) -> list[int]:\n    return [i for i in range(n) if i % 2 == 0]\nassert f(4) == [0, 2], f'{f(4)}'\n"
)


def main() -> None:
    """argv[1] is {"level", "limits": {…}}. Jobs come from stdin and answers go to stdout; children see /dev/null as both."""
    config = json.loads(sys.argv[1])
    control, answers = _take_descriptors()
    try:
        supervisor = _lock_down(config["level"], config["limits"], control)
    except OSError as error:
        _send(answers, {"refused": error.strerror or str(error)})
        sys.exit(1)
    _settle_memory()
    _send(answers, {"ready": os.getpid()})
    try:
        _serve(control, answers, supervisor, config["level"] == "namespaces")
    except Exception as error:  # the parent logs it and starts another zygote
        import traceback  # fails too where no file can be opened: then the parent does not learn why

        _send(answers, {"failed": "".join(traceback.format_exception(error))})


def _take_descriptors() -> tuple[int, int]:
    """Move control and answers to descriptors that children do not keep, and return them; 0, 1 and 2 become /dev/null."""
    control, answers = (os.dup2(fd, fd + 10, inheritable=False) for fd in (0, 1))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2, supervise.CHANNEL, _LIBRARY_FD):
        os.dup2(nowhere, fd)
    if nowhere > _LIBRARY_FD:
        os.close(nowhere)
    return control, answers


def _lock_down(level: str, limits: dict[str, Any], control: int) -> supervise.Supervisor:
    """Drop everything that a candidate must not have. Raises OSError naming the call that was refused.

    level "none" drops nothing: it shows that the probes and the hostile tests detect what they look for.
    """
    library = os.path.dirname(os.path.realpath(os.__file__))
    _set_limits(limits)
    _prepare_interpreter(PREIMPORTED + _SEALED if level == "sealed" else PREIMPORTED)
    if level == "none":
        return supervise.Supervisor(control, [])
    allowed = syscalls.COMPUTE + syscalls.SUPERVISE
    if level == "namespaces":
        namespaces.enter(library, limits["file_bytes"], limits["scratch_files"])
        sys.path[:] = [library, library + "/lib-dynload"]
        folders = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in (library, namespaces.SCRATCH)]
        system.prctl_call(system.PR_SET_NO_NEW_PRIVS, 1)()
        with suppress(OSError):  # an older kernel; the mount namespace holds nothing else anyway
            landlock.restrict(folders[:1], folders[1:])
        for folder in folders:
            os.close(folder)
        os.chdir(namespaces.SCRATCH)
        allowed += syscalls.READ_PATHS + syscalls.WRITE_PATHS
    else:
        folder = os.open(library, os.O_PATH | os.O_DIRECTORY)  # before the user changes: it may be in a private home
        os.chdir("/")
        privileges.become(privileges.sandbox_user())
        system.drop_capabilities()
        system.prctl_call(system.PR_SET_NO_NEW_PRIVS, 1)()
        sys.path.clear()
        if level == "landlock":
            landlock.restrict([folder], [])
            os.dup2(folder, _LIBRARY_FD)
            sys.path += [f"/proc/self/fd/{_LIBRARY_FD}", f"/proc/self/fd/{_LIBRARY_FD}/lib-dynload"]
            allowed += syscalls.READ_PATHS
        os.close(folder)
    system.prctl_call(system.PR_SET_DUMPABLE, 0)()
    system.prctl_call(system.PR_SET_PDEATHSIG, signal.SIGKILL)()  # after the user changes, which clears it
    sys.path_importer_cache.clear()
    random.seed(0)  # every child starts from this state
    no_processes = system.limit_call("RLIMIT_NPROC", 0)
    child_filter = seccomp.loading(seccomp.child_filter([*syscalls.SUPERVISE, "tgkill"]))
    seccomp.loading(seccomp.base_filter(allowed))()
    return supervise.Supervisor(control, [no_processes, child_filter])


def _set_limits(limits: dict[str, Any]) -> None:
    system.limit_call("RLIMIT_AS", limits["memory_bytes"])()
    system.limit_call("RLIMIT_FSIZE", limits["file_bytes"])()
    system.limit_call("RLIMIT_NOFILE", limits["open_files"])()
    system.limit_call("RLIMIT_CORE", 0)()


def _prepare_interpreter(modules: list[str]) -> None:
    """Prepare what children inherit: imports, a warm compiler, no trace of how this was started."""
    for name in modules:
        with suppress(ImportError):  # a Python may be built without some
            __import__(name)
    warnings.simplefilter("ignore")
    for _ in range(3):
        exec(compile(_WARM_UP, "<warm-up>", "exec"), {})
    for name in [name for name in sys.modules if name.split(".")[0] == "codecascade"]:
        del sys.modules[name]
    os.environ.clear()
    sys.argv[:] = sys.orig_argv[:] = [""]


def _settle_memory() -> None:
    """Make later objects lie together on few pages: zygote and child copy each page that they write to.

    Python allocates small objects in pools, one size in each. Fill all gaps in them for good, until the next two objects
    lie at the start of a pool: that pool is new, so no other pool of its size has room left.
    """
    gc.collect()
    gc.freeze()
    for size in range(_FLOAT_BYTES, _SMALL_BYTES + 1, 16):
        for _ in range(_MAX_FILLINGS):
            _fillers.extend([float(size) if size == _FLOAT_BYTES else bytes(size - sys.getsizeof(b"")) for _ in range(4)])
            addresses = [id(filler) for filler in _fillers[-5:]]
            if any(first % _POOL_BYTES == _POOL_HEADER_BYTES and second == first + size for first, second in pairwise(addresses)):
                break
    system.return_free_memory()


def _serve(control: int, answers: int, supervisor: supervise.Supervisor, scratch: bool) -> None:
    """Answer messages until the stream ends. Each is a job, or cancels the running one."""
    buffer = bytearray()
    while data := os.read(control, protocol.READ_BYTES):
        buffer += data
        for message in protocol.unpack(buffer):
            if "cancel" in message:
                _send(answers, {"cancelled": True})
            else:
                _run(message, answers, supervisor, scratch)


def _run(job: dict[str, Any], answers: int, supervisor: supervise.Supervisor, scratch: bool) -> None:
    """Run a job: several candidates against the same lines, with one answer for all."""
    attempts = []
    for source in job["sources"]:
        try:
            attempts.append(supervisor.attempt(source, job))
        except supervise.Cancelled:
            return  # _serve reads the cancelling message next
        finally:
            if scratch:
                _wipe(".")
    _write(answers, protocol.pack_attempts(attempts))


def _wipe(folder: str) -> None:
    """Empty a folder. Raises OSError if something cannot be removed: the zygote then ends, and its scratch folder with it."""
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            os.chmod(entry.path, 0o700)
            _wipe(entry.path)
            os.rmdir(entry.path)
        else:
            os.unlink(entry.path)


def _send(answers: int, message: dict[str, Any]) -> None:
    _write(answers, protocol.pack(message))


def _write(answers: int, message: bytes) -> None:
    data = memoryview(message)
    while data:
        data = data[os.write(answers, data) :]
