"""The parameters of a model's config.pbtxt."""

from __future__ import annotations

import json

from codecascade.errors import CascadeError


class Parameters:
    """The parameters in a model's config.pbtxt. A missing or unusable one is a CascadeError that names it."""

    def __init__(self, args: dict[str, str]) -> None:
        self._values = json.loads(args["model_config"])["parameters"]

    def text(self, name: str) -> str:
        value = self._values.get(name, {}).get("string_value")
        if not value:
            raise CascadeError(f"config.pbtxt has no parameter {name}")
        return str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A JSON list of texts."""
        value = self.text(name)
        try:
            found = json.loads(value)
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise CascadeError(f"parameter {name} in config.pbtxt is {value!r}, it must be a JSON list of texts")
        return tuple(found)

    def integer(self, name: str, low: int = 1) -> int:
        """A whole number of at least `low`."""
        value = self.text(name)
        if not value.isdecimal() or int(value) < low:
            raise CascadeError(f"parameter {name} in config.pbtxt is {value!r}, it must be a whole number of at least {low}")
        return int(value)

    def share(self, name: str) -> float:
        """A number above 0, of 1."""
        value = self.text(name)
        try:
            found = float(value)
        except ValueError:
            found = 0.0
        if not 0 < found <= 1:
            raise CascadeError(f"parameter {name} in config.pbtxt is {value!r}, it must be a number above 0 and at most 1")
        return found

    def numbers(self, name: str) -> tuple[int, ...]:
        """Whole numbers from 0 on, with commas between them."""
        value = self.text(name)
        if not all(each.isdecimal() for each in value.split(",")):
            raise CascadeError(f"parameter {name} in config.pbtxt is {value!r}, it must be whole numbers with commas between")
        return tuple(int(each) for each in value.split(","))
