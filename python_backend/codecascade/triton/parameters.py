"""The parameters of a model's config.pbtxt, and the names of its inputs."""

from __future__ import annotations

import json

from codecascade.errors import CascadeError


class Parameters:
    """The parameters in a model's config.pbtxt. A missing or unusable one is a CascadeError that names it."""

    def __init__(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self._values = config["parameters"]
        self.inputs: tuple[str, ...] = tuple(tensor["name"] for tensor in config.get("input", ()))

    def text(self, name: str) -> str:
        value = self._values.get(name, {}).get("string_value")
        if not value:
            raise CascadeError(f"config.pbtxt has no parameter {name}")
        return str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A JSON list of texts."""
        value = self.text(name)
        try:
            texts = json.loads(value)
        except ValueError:
            texts = None
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise CascadeError(f"parameter {name} in config.pbtxt is {value!r}, it must be a JSON list of texts")
        return tuple(texts)

    def integer(self, name: str, low: int = 1) -> int:
        """A whole number of at least `low`."""
        value = self.text(name)
        if not value.isdecimal() or int(value) < low:
            raise CascadeError(f"parameter {name} in config.pbtxt is {value!r}, it must be a whole number of at least {low}")
        return int(value)

    def share(self, name: str) -> float:
        """A number above 0 and at most 1."""
        value = self.text(name)
        try:
            share = float(value)
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            raise CascadeError(f"parameter {name} in config.pbtxt is {value!r}, it must be a number above 0 and at most 1")
        return share

    def numbers(self, name: str) -> tuple[int, ...]:
        """Whole numbers of at least 0, separated by commas."""
        value = self.text(name)
        if not all(number.isdecimal() for number in value.split(",")):
            raise CascadeError(f"parameter {name} in config.pbtxt is {value!r}, it must be whole numbers separated by commas")
        return tuple(int(number) for number in value.split(","))
