"""Tasks and texts for the tests of what is read from a model's answer."""

from codecascade.types import Task
from hypothesis import strategies as st

ADD = Task('import math\n\n\ndef add(a: int, b: int) -> int:\n    """The sum."""\n', "add")

MODEL_TEXT = st.lists(
    st.sampled_from(
        ["    return a + b\n", "def add(a, b):\n", "```", "python\n", "assert add(1, 2) == 3\n", "'''", "(", "\t", "\r\n", "\0"]
    )
    | st.text(max_size=20)
    | st.characters(categories=["Cs"]),
    max_size=20,
).map("".join)


HOSTILE = {
    "open brackets": "(" * 60_000,
    "nested brackets": "    return " + "[" * 199 + "]" * 199,
    "nested blocks": "\n".join("    " + " " * depth + "if 1:" for depth in range(300)),
    "unary": "    return " + "-" * 60_000 + "1",
    "lambdas": "    return " + "lambda:" * 8_000 + "1",
    "sum": "    return " + "1+" * 30_000 + "1",
    "calls": "    return f" + "()" * 30_000,
    "decorators": "@a\n" * 20_000,
    "errors": "    x = = 1\n" * 5_000,
    "quotes": "'''" * 20_000,
    "fences": "```python\nx\n```\n" * 4_000,
    "tabs": "\t" * 20_000 + "\n" + "\tx\n" * 5_000,
    "NUL": "\0" * 60_000,
    "surrogates": "\ud800" * 60_000,
    "digits": "    return " + "9" * 60_000,
    "lists": "```\n" + "- a\n" * 15_000,
    "quotations": "> " * 30_000 + "```",
    "backticks": "x" + "`" * 60_000,
    "a wide fence": "```" + " " * 60_000 + "x",
    "fences in strings": "```python\n'''\n" * 4_000,
    "thoughts": "<think>\n" * 7_000,
    "ends of thoughts": "</think>\n" * 7_000,
    "tags": "[PYTHON]\n" * 6_000,
    "sessions": ">>> x\n" * 10_000,
    "definitions": "```python\ndef add(a, b):\n    return g\n```\n" * 1_200,
    "pieces": "```python\nimport a\nb = c\n```\n" * 1_500 + "```python\ndef add(a, b):\n    return b\n```",
    "typographic quotes": "“" * 60_000,
    "words": "word " * 12_000,
    "prose": "This is a line of prose. It's nice!\n" * 1_600,
    "calls at top level": "    return 1\n" + "add(1, 2)\n" * 6_000,
    "names at top level": "    return x0\n" + "".join(f"x{i} = x{i + 1}\n" for i in range(1_300)),
    "functions": "    return f0()\n" + "".join(f"def f{i}(): return f{i + 1}()\n" for i in range(500)),
    "an f-string": "    x = f'" + "{x}" * 5_000 + "{'\n",
}
