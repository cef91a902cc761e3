"""What a tier model reads of its config.pbtxt, and how it names what it cannot use."""

from __future__ import annotations

import json
from typing import Any

import pytest
from codecascade.errors import CascadeError
from codecascade.triton.parameters import Parameters


def parameters(**values: str) -> Parameters:
    config = {"parameters": {name: {"string_value": value} for name, value in values.items()}}
    return Parameters({"model_config": json.dumps(config)})


def test_reads_every_kind() -> None:
    read = parameters(a="text", b='["x", "é"]', c="12", d="0,3", e="0.95")
    assert read.text("a") == "text"
    assert read.texts("b") == ("x", "é")
    assert read.integer("c") == 12
    assert read.numbers("d") == (0, 3)
    assert read.share("e") == 0.95


@pytest.mark.parametrize(
    ("kind", "value", "allowed"),
    [
        ("texts", "x", "a JSON list of texts"),
        ("texts", "[1]", "a JSON list of texts"),
        ("texts", '"x"', "a JSON list of texts"),
        ("integer", "0", "a whole number of at least 1"),
        ("integer", "many", "a whole number of at least 1"),
        ("integer", "-1", "a whole number of at least 1"),
        ("numbers", "0,", "whole numbers separated by commas"),
        ("numbers", "-1", "whole numbers separated by commas"),
        ("share", "much", "a number above 0 and at most 1"),
        ("share", "0", "a number above 0 and at most 1"),
        ("share", "nan", "a number above 0 and at most 1"),
        ("share", "1.5", "a number above 0 and at most 1"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_what_can(kind: str, value: str, allowed: str) -> None:
    with pytest.raises(CascadeError) as raised:
        getattr(parameters(some=value), kind)("some")
    assert str(raised.value) == f"parameter some in config.pbtxt is {value!r}, it must be {allowed}"


@pytest.mark.parametrize("values", [{}, {"some": ""}], ids=["absent", "empty"])
def test_a_parameter_that_is_not_there_is_named(values: dict[str, Any]) -> None:
    with pytest.raises(CascadeError, match=r"^config\.pbtxt has no parameter some$"):
        parameters(**values).text("some")
