"""What stands in for TensorRT-LLM's model where there is no GPU: the same tensors, a real model through transformers.

Rendered as the model.py of `<tier>-tensorrt_llm`. Like the engine it writes several sequences side by side, a token of each in
turn; ends a sequence at a stop sequence, which it returns; ends a request when another one with its id says `stop`; tells
log-probabilities only where return_log_probs says so, at the request's temperature, and by default (normalize_log_probs) among
the top_k tokens alone.
Metrics: stand_in_tokens, stand_in_prompts (whose keys and values were computed, not reused), stand_in_stopped,
stand_in_log_probs.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from codecascade.tiers.trtllm.tokens import sequences_of
from codecascade.triton.serving import Serving
from codecascade.triton.tensors import Inputs, numbers
from transformers import AutoModelForCausalLM, DynamicCache

PROMPTS_KEPT = 4


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        parameters = {key: value["string_value"] for key, value in json.loads(args["model_config"])["parameters"].items()}
        self._model = AutoModelForCausalLM.from_pretrained(
            parameters["gpt_model_path"], dtype=torch.float32, local_files_only=True
        ).eval()
        self._reuse = parameters["enable_kv_cache_reuse"] == "true"
        self._normalized = parameters.get("normalize_log_probs", "true") == "true"
        self._prompts: dict[tuple[int, ...], Any] = {}
        self._under_way: dict[str, asyncio.Event] = {}
        self._worker = ThreadPoolExecutor(1)  # one forward pass at a time, whoever's turn it is
        self._families: list[Any] = []
        self._tokens, self._computed, self._stopped, self._told = map(
            self._counter, ("tokens", "prompts", "stopped", "log_probs")
        )
        self._serving = Serving(self._answer)

    def execute(self, requests: Sequence[Any]) -> None:
        self._serving.submit(requests)

    def finalize(self) -> None:
        self._serving.close()

    def _counter(self, what: str) -> Any:
        family = pb_utils.MetricFamily(f"stand_in_{what}", f"The stand-in's {what}", pb_utils.MetricFamily.COUNTER)
        self._families.append(family)
        return family.Metric(labels={})

    async def _answer(self, request: Any) -> list[Any]:
        inputs = Inputs(request)
        name = request.request_id()
        if inputs.flag("stop", False):
            if name in self._under_way:
                self._under_way[name].set()
            return [numbers("output_ids", np.zeros((1, 1, 0)), np.int32), numbers("sequence_length", [[0]], np.int32)]
        stop = self._under_way[name] = asyncio.Event()
        try:
            ids, log_probs = await self._write(inputs, stop)
        finally:
            del self._under_way[name]
        padded = [*ids, -1]  # as the engine pads the shorter of several
        outputs = [numbers("output_ids", [[padded]], np.int32), numbers("sequence_length", [[len(ids)]], np.int32)]
        if inputs.flag("return_log_probs", False):
            self._told.increment(len(log_probs))
            outputs.append(numbers("output_log_probs", [[log_probs]], np.float32))
        return outputs

    async def _write(self, inputs: Inputs, stop: asyncio.Event) -> tuple[list[int], list[float]]:
        """The loop of a generation. Each forward pass runs on the worker, so that sequences take turns."""
        loop = asyncio.get_running_loop()
        prompt = inputs.array("input_ids").reshape(-1).tolist()
        sequences = sequences_of(inputs.array("stop_words_list").reshape(2, -1))
        draw = _Draw(inputs, self._normalized)
        logits, cache = await loop.run_in_executor(self._worker, self._read, tuple(prompt))
        ids: list[int] = []
        log_probs: list[float] = []
        while len(ids) < _scalar(inputs, "request_output_len"):
            if stop.is_set():
                self._stopped.increment(1)
                break
            token, log_prob = draw(logits)
            self._tokens.increment(1)
            ids.append(token)
            log_probs.append(log_prob)
            if any(tuple(ids[-len(sequence) :]) == sequence for sequence in sequences):
                break
            logits = await loop.run_in_executor(self._worker, self._step, token, cache)
        return ids, log_probs

    def _read(self, prompt: tuple[int, ...]) -> tuple[Any, Any]:
        kept = self._prompts.get(prompt) if self._reuse else None
        if kept is None:
            self._computed.increment(1)
            cache = DynamicCache(config=self._model.config)
            with torch.inference_mode():
                output = self._model(torch.tensor([prompt]), past_key_values=cache, logits_to_keep=1)
            kept = self._prompts[prompt] = (output.logits[0, -1], cache)
            if len(self._prompts) > PROMPTS_KEPT:
                del self._prompts[next(iter(self._prompts))]
        return copy.deepcopy(kept)

    def _step(self, token: int, cache: Any) -> Any:
        with torch.inference_mode():
            return self._model(torch.tensor([[token]]), past_key_values=cache).logits[0, -1]


class _Draw:
    """A token and its log-probability. Greedy for runtime_top_k 1, else from the nucleus of runtime_top_p."""

    def __init__(self, inputs: Inputs, normalized: bool) -> None:
        self._greedy = _scalar(inputs, "runtime_top_k") == 1
        self._normalized = normalized
        self._top_p = _scalar(inputs, "runtime_top_p")
        self._temperature = _scalar(inputs, "temperature")
        self._random = torch.Generator().manual_seed(_scalar(inputs, "seed"))

    def __call__(self, logits: Any) -> tuple[int, float]:
        log_probs = torch.log_softmax(logits / self._temperature, -1)
        if self._greedy:
            token = int(logits.argmax())
            return token, 0.0 if self._normalized else float(log_probs[token])
        token = self._drawn(log_probs.exp())
        return token, float(log_probs[token])

    def _drawn(self, every: Any) -> int:
        chances, order = every.sort(descending=True)
        chances[chances.cumsum(-1) - chances > self._top_p] = 0
        return int(order[torch.multinomial(chances, 1, generator=self._random)])


def _scalar(inputs: Inputs, name: str) -> Any:
    return inputs.array(name).reshape(-1)[0].item()
