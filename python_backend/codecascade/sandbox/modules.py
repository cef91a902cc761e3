"""Which modules a program in the sandbox can import: the standard library, and the packages that a deployment lists."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.metadata import distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path

from codecascade.errors import InvalidRequest

# Modules of the library that cannot be imported there, or do nothing: they need other processes, the network, a terminal or a
# display.
CLOSED = frozenset(
    (
        *("antigravity", "crypt", "curses", "ensurepip", "idlelib", "multiprocessing", "nis", "ossaudiodev", "pty", "readline"),
        *("spwd", "ssl", "tkinter", "turtle", "turtledemo", "venv"),
    )
)


@dataclass(frozen=True, slots=True)
class Packages:
    """Packages that the sandbox offers besides the standard library, and where they lie."""

    names: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    """The folders that hold them."""
    readable: tuple[str, ...] = ()
    """The folders and files in these that belong to them."""


NO_PACKAGES = Packages()


def offers(module: str, modules: Collection[str] = ()) -> bool:
    """Whether a program can import a module, by its full name. modules: the packages that the deployment lists.

    At the level `sealed` less can be imported: no extension module that is not loaded beforehand.
    """
    name = module.split(".")[0]
    if name in modules:
        return True
    return name in sys.stdlib_module_names and name not in CLOSED and _spec(name) is not None


def locate(modules: Sequence[str]) -> Packages:
    """The packages with these names in this Python. Raises InvalidRequest for a name that is not installed here."""
    readable: dict[str, None] = {}
    for name in modules:
        spec = _spec(name)
        if not name.isidentifier() or spec is None or name in sys.stdlib_module_names:
            raise InvalidRequest(
                f"sandbox module {name!r} cannot be offered, must be a package that is installed in the server's Python "
                "and no part of the standard library"
            )
        readable |= dict.fromkeys(_files(name, spec))
    roots = dict.fromkeys(str(Path(path).parent) for path in readable)
    return Packages(tuple(dict.fromkeys(modules)), tuple(roots), tuple(readable))


def _spec(name: str) -> ModuleSpec | None:
    try:
        return find_spec(name)
    except (ImportError, ValueError):  # ValueError: a module without a spec, which a program can import no more than we
        return None


def _files(name: str, spec: ModuleSpec) -> list[str]:
    """The module, and what else lies at the top of the distributions that it comes from (numpy.libs beside numpy)."""
    files = [str(Path(place).resolve()) for place in spec.submodule_search_locations or [spec.origin or ""]]
    for package in packages_distributions().get(name, []):
        installed = distribution(package)
        tops = {file.parts[0] for file in installed.files or []} - {"..", "__pycache__"}
        files += [
            str(path.resolve()) for path in (Path(str(installed.locate_file(top))) for top in sorted(tops)) if path.exists()
        ]
    return files
