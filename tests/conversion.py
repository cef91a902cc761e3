"""For tests that need the extra `conversion` (torch and transformers), which not every machine can have."""

from __future__ import annotations

import importlib.util
import os

import pytest

PACKAGES = ("gguf", "safetensors", "tokenizers", "torch", "transformers")


def need_conversion() -> None:
    """Call it before importing any of them: skips the test module where one is missing, and fails it in CI."""
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if not missing:
        return
    reason = f"{', '.join(missing)} not installed (make conversion)"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)
