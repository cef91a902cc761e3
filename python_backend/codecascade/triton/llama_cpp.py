"""A CPU tier: the tier contract over llama.cpp in this process."""

from __future__ import annotations

from pathlib import Path

from codecascade.llama_cpp import LlamaCpp
from codecascade.triton.in_process import InProcessTier
from codecascade.triton.tier import Parameters


class TritonPythonModel(InProcessTier):
    """Loaded by Triton."""

    def load(self, parameters: Parameters) -> LlamaCpp:
        return LlamaCpp(
            weights=Path(parameters.text("weights")),
            context_tokens=parameters.positive("context_tokens"),
            slots=parameters.positive("slots"),
        )
