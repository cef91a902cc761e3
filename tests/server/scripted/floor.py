"""The floor that the cascade is measured against: the same nested calls and nothing else. Rendered as a model.py.

For each request: solutions and tests from one tier at the same time, then the sandbox; what is sent is constant
(calls.json beside this file). No `Serving`, no parsing, no scoring, no trace: just enough of a background
loop to make the calls concurrently.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

_TIER_OUTPUTS = [
    *("text_output", "completion_tokens", "line_tokens", "prompt_tokens", "finish_reason", "stop_word"),
    *("cum_log_probs", "min_log_prob", "log_prob_tokens"),
]


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        calls = json.loads((Path(args["model_repository"]) / args["model_version"] / "calls.json").read_text())
        self._calls = calls
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(calls["threads"]))
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def execute(self, requests: Sequence[Any]) -> None:
        self._loop.call_soon_threadsafe(self._start, requests)

    def _start(self, requests: Sequence[Any]) -> None:
        for request in requests:
            task = self._loop.create_task(self._serve(request.get_response_sender()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, sender: Any) -> None:
        tier = self._calls["tier"]
        await asyncio.gather(
            _call(tier, _tier_inputs(self._calls["solutions"]), _TIER_OUTPUTS),
            _call(tier, _tier_inputs(self._calls["tests"]), _TIER_OUTPUTS),
        )
        programs = [_texts(name, self._calls[name]) for name in ("candidates", "test_lines")]
        await _call("sandbox", programs, ["verdicts", "cpu_s"])
        response = pb_utils.InferenceResponse([_texts("completion", [""])])
        sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


async def _call(model: str, inputs: list[Any], outputs: list[str]) -> None:
    response = await pb_utils.InferenceRequest(model_name=model, inputs=inputs, requested_output_names=outputs).async_exec()
    if response.has_error():
        raise RuntimeError(response.error().message())


def _tier_inputs(call: dict[str, Any]) -> list[Any]:
    return [
        _texts("text_input", [call["text_input"]]),
        _texts("stop_words", call["stop_words"]),
        _number(call, "max_tokens", np.int32),
        _number(call, "temperature", np.float32),
        _number(call, "top_p", np.float32),
        _number(call, "seed", np.uint64),
        _number(call, "num_return_sequences", np.int32),
        *([_number(call, "max_lines", np.int32)] if "max_lines" in call else []),
    ]


def _texts(name: str, values: Sequence[str]) -> Any:
    return pb_utils.Tensor(name, np.array([value.encode() for value in values], np.object_))


def _number(call: dict[str, Any], name: str, dtype: Any) -> Any:
    return pb_utils.Tensor(name, np.array([call[name]], dtype))
