"""A tier of the LLM API: the tier contract over TensorRT-LLM's LLM API in this process."""

from __future__ import annotations

from pathlib import Path

from codecascade.tiers.trtllm.llm_api import LlmApi, LlmApiSettings
from codecascade.tiers.trtllm.tokenizer import load_tokenizer
from codecascade.triton.models.in_process import InProcessTier
from codecascade.triton.parameters import Parameters


class TritonPythonModel(InProcessTier):
    """Loaded by Triton."""

    def load(self, parameters: Parameters) -> LlmApi:
        settings = LlmApiSettings(
            checkpoint=Path(parameters.text("checkpoint")),
            dtype=parameters.text("dtype"),
            gpu_device_ids=parameters.numbers("gpu_device_ids"),
            max_batch_size=parameters.integer("max_batch_size"),
            max_input_tokens=parameters.integer("max_input_tokens"),
            context_tokens=parameters.integer("context_tokens"),
            kv_cache_tokens=parameters.integer("kv_cache_tokens"),
            kv_cache_share=parameters.share("kv_cache_share"),
        )
        return LlmApi(settings, load_tokenizer(Path(parameters.text("tokenizer")), parameters.texts("end_tokens")))
