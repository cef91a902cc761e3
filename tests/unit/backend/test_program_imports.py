"""What a program imports that the sandbox does not offer."""

from __future__ import annotations

import ast

import pytest
from codecascade.texts.imports import missing_modules


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("import tkinter\nimport os.path\n", ("tkinter",)),
        ("import math, re\nfrom collections import deque\n", ()),
        ("import numpy as np\nimport numpy.linalg\n", ("numpy",)),
        ("from scipy.stats import norm\nimport pandas\n", ("scipy", "pandas")),
        ("from . import part\nfrom ..up.there import thing\n", (".", "..up.there")),
        ("if True:\n    import numpy\n", ("numpy",)),
        ("class A:\n    import numpy\n", ("numpy",)),
        ("try:\n    import numpy\nexcept ImportError:\n    numpy = None\n", ()),
        ("try:\n    import numpy\nexcept (ModuleNotFoundError, OSError):\n    import pandas\n", ("pandas",)),
        ("try:\n    import numpy\nexcept:\n    pass\n", ()),
        ("try:\n    import numpy\nexcept ValueError:\n    pass\n", ("numpy",)),
        ("try:\n    import numpy\nfinally:\n    pass\n", ("numpy",)),
        ("if typing.TYPE_CHECKING:\n    import numpy\nelse:\n    import pandas\n", ("pandas",)),
        ("def f():\n    import numpy\n", ("numpy",)),
        ("def other():\n    import numpy\n", ()),
        ("class A:\n    def f(self):\n        with x:\n            import numpy\n", ("numpy",)),
        ("match x:\n    case 1:\n        import numpy\n", ("numpy",)),
    ],
)
def test_the_modules_that_a_program_cannot_run_without(source: str, missing: tuple[str, ...]) -> None:
    assert missing_modules(ast.parse(source), modules=(), function="f") == missing


def test_what_the_sandbox_offers_is_not_missing() -> None:
    module = ast.parse("import numpy\nimport scipy\n")
    assert missing_modules(module, modules=("numpy",)) == ("scipy",)
