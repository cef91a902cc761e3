"""What APPS's own harness provides and how it compares, after hendrycks/apps, eval/testing_util.py.

The harness puts imports before every program and compares in steps that get more lenient; a program passes if one of them does.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Mapping
from textwrap import indent
from typing import Any

from codecascade.sandbox import outputs

from codecascade_client.datasets.records import shown

# What runs before an answer. The harness also imports NumPy, which the sandbox does not have, and only List and Tuple of
# typing. It was written for a Python that reads and prints integers of any length.
SETUP = """\
import collections, fractions, heapq, itertools, math, random, sys, time
from collections import ChainMap, Counter, OrderedDict, defaultdict, deque
from functools import lru_cache
from heapq import *
from itertools import accumulate, combinations, permutations, product
from math import ceil, cos, exp, fabs, floor, gcd, log, log2, sin, sqrt, tan
from typing import *
if hasattr(sys, "set_int_max_str_digits"):
    sys.set_int_max_str_digits(0)
"""

# A function's result: a tuple is a list, a list of tuples is a list of lists, and an output may be wrapped in a list.
CALL_CHECK = """\
def check(candidate):
    def agrees(found, wanted):
        if isinstance(found, tuple):
            found = list(found)
        if found == wanted:
            return True
        if not isinstance(wanted, list) or not wanted:
            return False
        if found == wanted[0]:
            return True
        tuples = isinstance(found, list) and found and isinstance(found[0], tuple)
        return bool(tuples) and [list(part) for part in found] == wanted[0]

    for given, wanted in CASES:
        assert agrees(candidate(*given), wanted)
"""

# What a program prints. The comparison's names are the check's own: an answer's stay as they are.
STDIN_CHECK = f"""\
def check(candidate):
{indent(inspect.getsource(outputs), "    ")}
    for given, wanted in CASES:
        assert same_output(candidate(given), wanted)
"""

_DECIMAL = 10**600  # integers beyond it are written in hexadecimal, whose length Python does not limit


def values_of_case(given: Any, wanted: Any) -> tuple[list[Any], Any]:
    """Arguments and result of one call. JSON has made texts of a dictionary's integer keys; the harness undoes that.

    Raises ValueError for arguments that are no list.
    """
    if isinstance(given, (str, dict)):
        given = list(given)  # which is what `candidate(*given)` makes of it
    if not isinstance(given, list):
        raise ValueError(f"one of its inputs is {shown(given)}, it must be a list of arguments")
    if given and isinstance(given[0], dict) and (keyed := _integer_keys(given[0])) is not None:
        given = [keyed]
    for result in (wanted, wanted[0] if isinstance(wanted, list) and wanted else None):
        if isinstance(result, dict) and (keyed := _integer_keys(result)) is not None:
            wanted = [keyed]
    return given, wanted


def texts_of_case(given: Any, wanted: Any) -> tuple[str, str]:
    """Standard input and output of one run: each may be a list of lines. Raises ValueError for anything else."""
    return _text("inputs", given), _text("outputs", wanted)


def method_as_function(source: str, name: str) -> str:
    """A solution that may be a method of `class Solution`, as a function. The harness calls it the same way."""
    if "class Solution" not in source:
        return source
    return f"{source}\n\ndef {name}(*arguments):\n    return Solution().{name}(*arguments)\n"


def literal(value: Any) -> str:
    """A JSON value as Python source, in ASCII. Infinite numbers and integers of any length are read back as what they are."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(part)}" for key, part in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, float) and value - value != 0.0:
        return f"float({str(value)!r})"
    if isinstance(value, int) and abs(value) >= _DECIMAL:
        return hex(value)
    return ascii(value)


def _integer_keys(value: Mapping[str, Any]) -> dict[int, Any] | None:
    try:
        return {int(key): part for key, part in value.items()}
    except ValueError:
        return None


def _text(what: str, value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(map(str, value))
    if not isinstance(value, str):
        raise ValueError(f"one of its {what} is {shown(value)}, it must be a text or a list of lines")
    return value


def _provided() -> Mapping[str, str]:
    """An import statement for each name that the setup gives."""
    names: dict[str, str] = {}
    for node in ast.parse(SETUP).body:
        if isinstance(node, ast.Import):
            names.update({alias.name: f"import {alias.name}" for alias in node.names})
        elif isinstance(node, ast.ImportFrom):
            given = [alias.name for alias in node.names]
            given = importlib.import_module(str(node.module)).__all__ if given == ["*"] else given
            names.update({name: f"from {node.module} import {name}" for name in given})
    return names


NAMES = _provided()
