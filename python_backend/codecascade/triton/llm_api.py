"""A tier of the LLM API: the tier contract over TensorRT-LLM's LLM API in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from codecascade.llm_api import LlmApi, LlmApiSettings
from codecascade.tokenizer import load_tokenizer
from codecascade.triton.serving import Serving
from codecascade.triton.tensors import Inputs
from codecascade.triton.tier import Parameters, answered, asked


class TritonPythonModel:
    """Loaded by Triton. Start-up fails with one sentence if the checkpoint or a parameter cannot be used."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = Parameters(args)
        self._tier = args["model_name"]
        self._max_tokens = parameters.positive("max_completion_tokens")
        settings = LlmApiSettings(
            checkpoint=Path(parameters.text("checkpoint")),
            dtype=parameters.text("dtype"),
            gpu_device_ids=parameters.numbers("gpu_device_ids"),
            max_batch_size=parameters.positive("max_batch_size"),
            max_input_tokens=parameters.positive("max_input_tokens"),
            context_tokens=parameters.positive("context_tokens"),
            kv_cache_tokens=parameters.positive("kv_cache_tokens"),
            kv_cache_share=parameters.share("kv_cache_share"),
        )
        tokenizer = load_tokenizer(Path(parameters.text("tokenizer")), parameters.texts("end_tokens"))
        self._engine = LlmApi(settings, tokenizer)
        self._serving = Serving(self._answer, nested=True)

    def execute(self, requests: list[Any]) -> None:
        self._serving.submit(requests)

    def finalize(self) -> None:
        self._serving.close()
        self._engine.close()

    async def _answer(self, request: Any) -> list[Any]:
        return answered(await self._engine.generate(asked(Inputs(request), self._tier, self._max_tokens)))
