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
# At the level `sealed` no file can be opened: these are the extension modules that programs may need. What is written in Python
# lies in memory (mapped.py).
_SEALED = syscalls.words(
    """
    array binascii fcntl grp mmap pyexpat resource select unicodedata _bisect _blake2 _bz2 _codecs_cn _codecs_hk _codecs_iso2022
    _codecs_jp _codecs_kr _codecs_tw _contextvars _csv _datetime _decimal _elementtree _hashlib _heapq _json _lzma _md5
    _multibytecodec _opcode _pickle _posixsubprocess _queue _random _sha1 _sha2 _sha256 _sha3 _sha512 _socket _sqlite3 _statistics
    _struct _zoneinfo
    """
)
# Extension modules that may need a shared library from outside the library's folder.
_NEED_OUTSIDE = syscalls.words("_bz2 _crypt _decimal _hashlib _lzma _sqlite3 _uuid pyexpat")
# Parts of packages that these load when they are first used, which would be in every child.
_LOADED_LATE = {"numpy": ("numpy.fft", "numpy.linalg", "numpy.random")}
# zoneinfo's data. It is public, and the same on every machine.
_TIME_ZONES = ("/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo")

_PATHS = {"namespaces": syscalls.READ_PATHS + syscalls.WRITE_PATHS, "landlock": syscalls.READ_PATHS, "sealed": []}
_HIGH_FD = 16  # above the folders that children keep
# Sizes in Python's allocator. With another allocator, only _MAX_FILLINGS ends the filling of each size.
_POOL_BYTES, _POOL_HEADER_BYTES, _FLOAT_BYTES, _SMALL_BYTES, _MAX_FILLINGS = 1 << 14, 48, 32, 512, 1024
_fillers: list[object] = []
_WARM_UP = (
    "import math\ndef f(n: int) -> list[int]:\n    return [i for i in range(n) if i % 2 == 0]\nassert f(4) == [0, 2], f'{f(4)}'\n"
)


def main() -> None:
    """argv[1] is {"level", "limits": {…}, "packages": {…}}. Jobs come from stdin and answers go to stdout.

    Children see /dev/null as both.
    """
    config = json.loads(sys.argv[1])
    control, answers = _take_descriptors()
    try:
        supervisor = _lock_down(config["level"], config["limits"], config["packages"], control)
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
    for fd in (0, 1, 2, supervise.CHANNEL):
        os.dup2(nowhere, fd)
    if nowhere > supervise.CHANNEL:
        os.close(nowhere)
    return control, answers


def _lock_down(level: str, limits: dict[str, Any], packages: dict[str, Any], control: int) -> supervise.Supervisor:
    """Drop everything that a candidate must not have. Raises OSError naming the call that was refused.

    level "none" drops nothing: it shows that the probes and the hostile tests detect what they look for.
    packages: the fields of modules.Packages.
    """
    library = os.path.dirname(os.path.realpath(os.__file__))
    mapped = [_in_memory(library)] if level == "sealed" else []
    _set_limits(limits)
    _prepare_interpreter([*PREIMPORTED, *(_SEALED if level == "sealed" else [])], packages)
    if level == "none":
        return supervise.Supervisor(control, [], supervise.CHANNEL + 1)
    readable = [*packages["readable"], *filter(os.path.exists, _TIME_ZONES)]
    if level != "sealed":
        readable += [path for path in _shared_libraries() if not path.startswith(library + os.sep)]
    folders = 0  # that children keep open
    if level == "namespaces":
        _leave_namespaces(library, readable, limits)
    elif level == "landlock":
        folders = _restrict_to(library, packages["roots"], readable)
    else:
        _become_powerless()
        sys.path.clear()
        sys.meta_path += mapped
    system.prctl_call(system.PR_SET_DUMPABLE, 0)()
    system.prctl_call(system.PR_SET_PDEATHSIG, signal.SIGKILL)()  # after the user changes, which clears it
    sys.path_importer_cache.clear()
    random.seed(0)  # every child starts from this state
    system.limit_call("RLIMIT_NOFILE", limits["open_files"])()  # not before: the paths above may be more
    no_processes = system.limit_call("RLIMIT_NPROC", 0)
    child_filter = seccomp.loading(seccomp.child_filter([*syscalls.SUPERVISE, "tgkill"]))
    seccomp.loading(seccomp.base_filter(syscalls.COMPUTE + syscalls.SUPERVISE + _PATHS[level]))()
    return supervise.Supervisor(control, [no_processes, child_filter], supervise.CHANNEL + 1 + folders)


def _in_memory(library: str) -> Any:
    from codecascade.sandbox.zygote.mapped import MappedLibrary  # the modules that it needs are a burden to other levels

    try:
        return MappedLibrary(library)
    except OSError as error:
        raise OSError(error.errno, f"the library in memory: {error.strerror}") from None


def _leave_namespaces(library: str, readable: list[str], limits: dict[str, Any]) -> None:
    namespaces.enter(library, readable, limits["file_bytes"], limits["scratch_files"])
    sys.path[:] = [library, library + "/lib-dynload"]
    system.prctl_call(system.PR_SET_NO_NEW_PRIVS, 1)()
    with suppress(OSError):  # an older kernel; the mount namespace holds nothing else anyway
        allowed = _open([library, *readable, namespaces.SCRATCH])
        landlock.restrict(allowed[:-1], allowed[-1:])
    os.chdir(namespaces.SCRATCH)


def _restrict_to(library: str, roots: list[str], readable: list[str]) -> int:
    """Restrict what can be opened. Returns how many folders stay open, for children to import through."""
    opened = _open([library, *roots, *readable])  # now: they may be in a private home
    folders, others = opened[: 1 + len(roots)], opened[1 + len(roots) :]
    _become_powerless()
    landlock.restrict([folders[0], *others], [])
    kept = [os.dup2(fd, supervise.CHANNEL + 1 + place) for place, fd in enumerate(folders)]
    for fd in opened:
        os.close(fd)
    _import_through(dict(zip([library, *roots], kept, strict=True)))
    sys.path[:] = [f"/proc/self/fd/{kept[0]}", f"/proc/self/fd/{kept[0]}/lib-dynload"]
    return len(kept)


def _become_powerless() -> None:
    os.chdir("/")
    privileges.become(privileges.sandbox_user())
    system.drop_capabilities()
    system.prctl_call(system.PR_SET_NO_NEW_PRIVS, 1)()


def _open(paths: list[str]) -> list[int]:
    """Descriptors of files and folders, above those that children keep."""
    for place, path in enumerate(paths):
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        os.dup2(fd, _HIGH_FD + place, inheritable=False)
        os.close(fd)
    return list(range(_HIGH_FD, _HIGH_FD + len(paths)))


def _import_through(folders: dict[str, int]) -> None:
    """Have the packages that are loaded look for their modules through descriptors of these folders.

    Their own paths may lead through a home that the sandbox's user cannot enter.
    """
    for module in list(sys.modules.values()):
        places = getattr(module, "__path__", None)
        if not isinstance(places, list):
            continue
        for number, place in enumerate(places):
            real = os.path.realpath(place)
            for folder, fd in folders.items():
                if real.startswith(folder + os.sep):
                    places[number] = f"/proc/self/fd/{fd}{real[len(folder) :]}"


def _shared_libraries() -> list[str]:
    """The shared libraries that extension modules need, under all their names. Found out in another process: here they would be
    a burden to every child."""
    before = _mapped_libraries()
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        try:
            for name in _NEED_OUTSIDE:
                with suppress(ImportError):
                    __import__(name)
            os.write(write_end, "\n".join(_mapped_libraries() - before).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end) as answer:
        found = set(answer.read().split("\n")) - {""}
    os.wait()
    folders = {os.path.dirname(path) for path in found}
    return [entry.path for folder in folders for entry in os.scandir(folder) if os.path.realpath(entry.path) in found]


def _mapped_libraries() -> set[str]:
    with open("/proc/self/maps") as maps:
        paths = [line.rstrip("\n").partition("/")[2] for line in maps]
    return {f"/{path}" for path in paths if ".so" in path}


def _set_limits(limits: dict[str, Any]) -> None:
    system.limit_call("RLIMIT_AS", limits["memory_bytes"])()
    system.limit_call("RLIMIT_FSIZE", limits["file_bytes"])()
    system.limit_call("RLIMIT_CORE", 0)()


def _prepare_interpreter(modules: list[str], packages: dict[str, Any]) -> None:
    """Prepare what children inherit: imports, a warm compiler, no trace of how this was started. Raises OSError."""
    for name in modules:
        with suppress(ImportError):  # a Python may be built without some
            __import__(name)
    sys.path += packages["roots"]
    for name in packages["names"]:
        _import_package(name)
    warnings.simplefilter("ignore")
    for _ in range(3):
        exec(compile(_WARM_UP, "<warm-up>", "exec"), {})
    for name in [name for name in sys.modules if name.split(".")[0] == "codecascade"]:
        del sys.modules[name]
    os.environ.clear()
    sys.argv[:] = sys.orig_argv[:] = [""]


def _import_package(name: str) -> None:
    """Here, where it is done once and every file can be read. Raises OSError."""
    try:
        for module in (name, *_LOADED_LATE.get(name, ())):
            __import__(module)
    except Exception as error:
        raise OSError(f"module {name} cannot be imported: {error}") from None
    if len(os.listdir("/proc/self/task")) > 1:
        raise OSError(f"module {name} starts threads, which the sandbox does not have")
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed(0)  # as `random` below


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
            os.set_blocking(0, True)  # all children share what 0 to 2 are open on, and may change this one property of it
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
