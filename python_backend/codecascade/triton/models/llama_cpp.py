"""A CPU tier: the tier contract over llama.cpp in this process."""

from __future__ import annotations

from pathlib import Path

from codecascade.tiers.llama_cpp import LlamaCpp
from codecascade.triton.models.in_process import InProcessTier
from codecascade.triton.parameters import Parameters


class TritonPythonModel(InProcessTier):
    """Loaded by Triton."""

    def load(self, parameters: Parameters) -> LlamaCpp:
        return LlamaCpp(
            weights=Path(parameters.text("weights")),
            context_tokens=parameters.integer("context_tokens"),
            slots=parameters.integer("slots"),
        )
