"""The standard library in memory, for the level that can open no file: what is written in Python, not the extension modules."""

from __future__ import annotations

import marshal
import mmap
import os
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import MAGIC_NUMBER, cache_from_source
from types import ModuleType

from codecascade.sandbox.zygote import syscalls

# Large folders that no program in the sandbox can use.
_LEFT_OUT = syscalls.words(
    """
    __pycache__ dist-packages distutils ensurepip idlelib lib-dynload lib2to3 pydoc_data site-packages test tests tkinter
    turtledemo
    """
)


class MappedLibrary:
    """A finder and loader of modules. The code lies in a mapping of its own: a fork neither copies it nor its page table."""

    def __init__(self, folder: str) -> None:
        """Raises OSError."""
        self._places: dict[str, tuple[int, int, bool, bool]] = {}  # begin and end; whether compiled; whether a package
        file = os.memfd_create("library")
        end = 0
        for name, path in _modules(folder):
            code, compiled = _code(path)
            os.write(file, code)
            self._places[name] = (end, end + len(code), compiled, path.endswith("__init__.py"))
            end += len(code)
        self._memory = mmap.mmap(file, end, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        os.close(file)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in self._places:
            return None
        return ModuleSpec(name, self, is_package=self._places[name][3])  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual module will do."""

    def exec_module(self, module: ModuleType) -> None:
        start, end, compiled, _ = self._places[module.__name__]
        code = self._memory[start:end]
        exec(marshal.loads(code) if compiled else compile(code, module.__name__, "exec"), module.__dict__)


def _modules(folder: str) -> Iterator[tuple[str, str]]:
    """Name and path of every module."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and name.isidentifier())
        package = os.path.relpath(parent, folder).replace(os.sep, ".")
        prefix = "" if package == "." else f"{package}."
        for file in sorted(files):
            stem, ending = os.path.splitext(file)
            if ending == ".py" and stem != "__init__":
                yield prefix + stem, os.path.join(parent, file)
            elif file == "__init__.py" and prefix:
                yield package, os.path.join(parent, file)


def _code(path: str) -> tuple[bytes, bool]:
    """A module's compiled code, where its .pyc is up to date, or else its source; and which of them."""
    with open(path, "rb") as file:
        source = file.read()
    try:
        with open(cache_from_source(path), "rb") as file:
            cached = file.read()
    except OSError:
        return source, False
    status = os.stat(path)
    stamp = b"".join(int(value).to_bytes(4, "little") for value in (0, status.st_mtime, status.st_size))
    return (cached[len(MAGIC_NUMBER + stamp) :], True) if cached.startswith(MAGIC_NUMBER + stamp) else (source, False)
