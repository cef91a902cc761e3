"""A tier whose answers are scripted: it meets the tier contract, without a language model. Rendered as a model.py.

The tasks it solves are sums: a prompt that opens `def NAME(a, b):` is completed with `return a + b`, and its test
sample (style base) asserts sums. A comment line `# TIER: BEHAVIOUR` in the prompt makes one tier behave otherwise:
    wrong         solutions subtract
    wrong_tests   asserts that no right solution passes
    no_tests      a test sample without a single assert
    fail          the call fails (UNAVAILABLE)
    die           the model's process ends in the middle of the call
    stall         the answer comes STALL_S late
Sampled texts (temperature > 0) carry a mark that follows from (seed, sequence); greedy ones do not.
Model parameters: delay_s (how long every call takes), context_tokens. A token is a word.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from codecascade.errors import InvalidRequest, TierUnavailable
from codecascade.triton.serving import Serving
from codecascade.triton.tensors import Inputs

STALL_S = 5.0
_TESTED = re.compile(r"# check the correctness of (\w+)\nassert $")
_SUMS = ((1, 2), (3, 4), (-1, 5), (10, 20), (7, 7), (2, 100))


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._name = config["name"]
        self._delay_s = float(parameters["delay_s"])
        self._context_tokens = int(parameters["context_tokens"])
        self._family = pb_utils.MetricFamily(
            "scripted_stopped_calls", "Stalled calls that were cancelled", pb_utils.MetricFamily.COUNTER
        )
        self._stopped = self._family.Metric(labels={"tier": self._name})
        self._serving = Serving(self._answer, nested=True)

    def execute(self, requests: Sequence[Any]) -> None:
        self._serving.submit(requests)

    def finalize(self) -> None:
        self._serving.close()

    async def _answer(self, request: Any) -> list[Any]:
        inputs = Inputs(request)
        prompt = inputs.text("text_input")
        behaviour = self._behaviour(prompt)
        prompt_tokens = len(prompt.split())
        if prompt_tokens >= self._context_tokens:
            raise InvalidRequest(f"the prompt has {prompt_tokens} tokens, the context has {self._context_tokens}")
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        if behaviour == "fail":
            raise TierUnavailable("told to fail")
        if behaviour == "die":
            os._exit(1)
        if behaviour == "stall":
            await self._stall()

        text = _answer_text(prompt, behaviour)
        seed = inputs.integer("seed", 0, 2**64 - 1, default=0)
        sampled = inputs.real("temperature", 0, 2, default=0.0) > 0
        count = inputs.integer("num_return_sequences", 1, 100, default=1)
        drafts = [_marked(text, seed, j) if sampled else text for j in range(count)]
        stop_words = inputs.texts("stop_words")
        max_tokens = inputs.integer("max_tokens", 1, 4096, default=256)
        max_lines = inputs.integer("max_lines", 1, 100, default=None)
        answers = [_cut("\n".join(draft.split("\n")[:max_lines]), stop_words, max_tokens) for draft in drafts]
        return [
            _texts("text_output", [answer for answer, _ in answers]),
            _numbers("completion_tokens", [len(answer.split()) for answer, _ in answers]),
            _numbers("line_tokens", [tokens for answer, _ in answers for tokens in _line_tokens(answer)]),
            _numbers("prompt_tokens", [prompt_tokens]),
            _texts("finish_reason", [reason for _, reason in answers]),
        ]

    async def _stall(self) -> None:
        try:
            await asyncio.sleep(STALL_S)
        except asyncio.CancelledError:
            self._stopped.increment(1)
            raise

    def _behaviour(self, prompt: str) -> str:
        told = re.search(rf"^# {re.escape(self._name)}: (\w+)$", prompt, re.MULTILINE)
        return told.group(1) if told else "right"


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


def _cut(text: str, stop_words: Sequence[str], max_tokens: int) -> tuple[str, str]:
    for word in stop_words:
        text = text.partition(word)[0]
    words = re.findall(r"\s*\S+", text)
    if len(words) > max_tokens:
        return "".join(words[:max_tokens]), "length"
    return text, "stop"


def _line_tokens(text: str) -> Iterator[int]:
    """Words are tokens."""
    return itertools.accumulate(len(line.split()) for line in text.split("\n"))


def _texts(name: str, rows: Sequence[str]) -> Any:
    return pb_utils.Tensor(name, np.array([row.encode() for row in rows], np.object_))


def _numbers(name: str, rows: Sequence[int]) -> Any:
    return pb_utils.Tensor(name, np.array(rows, np.int32))
