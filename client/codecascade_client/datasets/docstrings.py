"""A question as the docstring of the function that answers it."""

from __future__ import annotations


def docstring(text: str) -> str:
    """The text as an indented docstring: whole lines that end a function's header."""
    body = text.strip().replace("\\", "\\\\").replace('"""', "'''")
    lines = "".join(f"    {line}\n" if line else "\n" for line in body.splitlines())
    return f'    """\n{lines}    """\n'
