"""A tier whose answers are scripted: it meets the tier contract, without a language model. Rendered as a model.py.

The tasks it solves are sums: a prompt that opens `def NAME(a, b):` is completed with `return a + b`, and its test
sample (style base) asserts sums. A comment line `# TIER: BEHAVIOUR` in the prompt makes one tier behave otherwise:
    wrong         solutions subtract
    wrong_tests   asserts that no right solution passes
    no_tests      a test sample without a single assert
    fail          the call fails (UNAVAILABLE)
    die           the model's process ends in the middle of the call
    stall         the answer comes STALL_S late
    hang          nothing is answered for STALL_S, not even this call's end
`# TIER takes: SECONDS` makes its answers come so late. `# TIER writes: JSON` or `# TIER tests: JSON`, with a text in JSON,
makes it answer with just this text; `# TIER garbles: JSON`, with an object in JSON, puts other tensors in the place of its
outputs, or none for null.
Sampled texts (temperature > 0) carry a mark that follows from (seed, sequence); greedy ones do not.
Model parameters: delay_s (how long every call takes), context_tokens, ledger (a file that gets a line of JSON for every
answer: the function that was asked for and the tokens; it outlives the process, as metrics do not). A token is a word;
`<|im_end|>` is a special one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from codecascade.errors import InvalidRequest, TierUnavailable
from codecascade.tiers.contract import GenerateRequest, Generation
from codecascade.tiers.special_tokens import SpecialTokens
from codecascade.triton.models.base import ServedModel
from codecascade.triton.parameters import Parameters
from codecascade.triton.tensors import Inputs
from codecascade.triton.tier_contract import read_request, write_response
from codecascade.types import LogProbs, Sample

STALL_S = 5.0
_MAX_TOKENS = 4096
_TESTED = re.compile(r"# check the correctness of ([\w.]+)\nassert (?:[\w.()]*)$")
_SPECIAL = SpecialTokens(["<|im_end|>"])
_SUMS = ((1, 2), (3, 4), (-1, 5), (10, 20), (7, 7), (2, 100))


class TritonPythonModel(ServedModel):
    guarded = True

    def start(self, parameters: Parameters) -> None:
        self._delay_s = float(parameters.text("delay_s"))
        self._context_tokens = parameters.integer("context_tokens")
        self._ledger = Path(parameters.text("ledger")).open("a", buffering=1)  # noqa: SIM115 - a line goes out as it is written
        self._family = pb_utils.MetricFamily(
            "scripted_stopped_calls", "Stalled calls that were cancelled", pb_utils.MetricFamily.COUNTER
        )
        self._stopped = self._family.Metric(labels={"tier": self.name})
        self._stalled_family = pb_utils.MetricFamily(
            "scripted_stalled_calls", "Calls that began to stall", pb_utils.MetricFamily.COUNTER
        )
        self._stalled = self._stalled_family.Metric(labels={"tier": self.name})

    async def answer(self, request: Any) -> list[Any]:
        asked = read_request(Inputs(request), self.name, _MAX_TOKENS)
        behaviour = self._behaviour(asked.text_input)
        prompt_tokens = sum(len(part.split()) for part in _SPECIAL.apart(asked.text_input, asked.literal_ranges))
        if prompt_tokens >= self._context_tokens:
            raise InvalidRequest(f"the prompt has {prompt_tokens} tokens, the context has {self._context_tokens}")
        if delay_s := self._delay_s + self._told_delay_s(asked.text_input):
            await asyncio.sleep(delay_s)
        if behaviour == "fail":
            raise TierUnavailable("told to fail")
        if behaviour == "die":
            os._exit(1)
        if behaviour == "stall":
            await self._stall()
        if behaviour == "hang":
            time.sleep(STALL_S)  # noqa: ASYNC251 - the loop hangs

        told = self._told_text(asked.text_input)
        text = _answer_text(asked.text_input, behaviour) if told is None else told
        marks = bool(asked.temperature) and told is None
        sequences = range(asked.first_sequence or 0, (asked.first_sequence or 0) + asked.num_return_sequences)
        drafts = [_marked(text, asked.seed, sequence) if marks else text for sequence in sequences]
        generation = Generation(tuple(_sample(draft, asked) for draft in drafts), prompt_tokens)
        outputs = write_response(generation)
        self._ledger.write(_entry(self.name, asked.text_input, generation))
        garbled = re.search(rf"^# {re.escape(self.name)} garbles: (.*)$", asked.text_input, re.MULTILINE)
        return _garbled(outputs, json.loads(garbled.group(1))) if garbled else outputs

    async def _stall(self) -> None:
        self._stalled.increment(1)
        try:
            await asyncio.sleep(STALL_S)
        except asyncio.CancelledError:
            self._stopped.increment(1)
            raise

    def _behaviour(self, prompt: str) -> str:
        told = re.search(rf"^# {re.escape(self.name)}: (\w+)$", prompt, re.MULTILINE)
        return told.group(1) if told else "right"

    def _told_delay_s(self, prompt: str) -> float:
        told = re.search(rf"^# {re.escape(self.name)} takes: ([\d.]+)$", prompt, re.MULTILINE)
        return float(told.group(1)) if told else 0.0

    def _told_text(self, prompt: str) -> str | None:
        kind = "tests" if _TESTED.search(prompt) else "writes"
        told = re.search(rf"^# {re.escape(self.name)} {kind}: (.*)$", prompt, re.MULTILINE)
        return str(json.loads(told.group(1))) if told else None


def _entry(tier: str, prompt: str, generation: Generation) -> str:
    function = re.search(r"^def (\w+)", prompt, re.MULTILINE)
    entry = {
        "tier": tier,
        "function": function.group(1) if function else "",
        "prompt_tokens": generation.prompt_tokens,
        "completion_tokens": sum(sample.completion_tokens for sample in generation.samples),
    }
    return json.dumps(entry) + "\n"


def _garbled(outputs: list[Any], others: dict[str, Any]) -> list[Any]:
    """Texts stand for the bytes of their characters, whole numbers for INT32, others for FP32."""
    kept = [output for output in outputs if output.name() not in others]
    return kept + [pb_utils.Tensor(name, _array(values)) for name, values in others.items() if values is not None]


def _array(values: list[Any]) -> np.ndarray[Any, Any]:
    if isinstance(values[0], str):
        return np.array([value.encode("latin-1") for value in values], np.object_)
    return np.array(values, np.int32 if isinstance(values[0], int) else np.float32)


def _answer_text(prompt: str, behaviour: str) -> str:
    tested = _TESTED.search(prompt)
    if not tested:
        return f"    return a {'-' if behaviour == 'wrong' else '+'} b\n"
    if behaviour == "no_tests":
        return "True, 'not a line that'\nneeds the function\n"
    off = 1 if behaviour == "wrong_tests" else 0
    return "\nassert ".join(f"{tested.group(1)}({a}, {b}) == {a + b + off}" for a, b in _SUMS) + "\n"


def _marked(text: str, seed: int, sequence: int) -> str:
    """Solutions only: a comment line before the body."""
    if not text.startswith("    return"):
        return text
    return f"    # draft {zlib.crc32(f'{seed}/{sequence}'.encode())}\n{text}"


def _sample(text: str, asked: GenerateRequest) -> Sample:
    text = "\n".join(text.split("\n")[: asked.max_lines])
    stop_word = ""
    for word in asked.stop_words:
        if word in text:
            text, stop_word = text.partition(word)[0], word
    words = re.findall(r"\s*\S+", text)
    cut = len(words) > asked.max_tokens
    if cut:
        text, stop_word = "".join(words[: asked.max_tokens]), ""
    line_tokens = itertools.accumulate(len(line.split()) for line in text.split("\n"))
    log_probs = LogProbs.of([-0.25] * len(text.split()))
    return Sample(text, len(text.split()), "length" if cut else "stop", tuple(line_tokens), stop_word, log_probs=log_probs)
