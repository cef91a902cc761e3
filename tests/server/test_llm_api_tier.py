"""A tier of the LLM API on a real Triton, with a fake of TensorRT-LLM's package: the rendered model and its parameters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from codecascade_build.errors import BuildError

from tests.conversion import need_conversion

need_conversion()
from codecascade_build.server.process import RunningServer
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from tests.fake_tensorrt_llm.counting import counting_checkpoint
from tests.server.llm_api import TIER, repository
from tests.server.real_server import StartServer

pytestmark = pytest.mark.triton


@pytest.fixture
def server(llm_api_server: RunningServer) -> RunningServer:
    return llm_api_server


@pytest.fixture
def client(server: RunningServer) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.grpc) as client:
        yield client


def tensor(name: str, datatype: str, values: list[Any], dtype: Any) -> InferInput:
    made = InferInput(name, [len(values)], datatype)
    made.set_data_from_numpy(np.array(values, dtype))
    return made


def generate(client: InferenceServerClient, text: str, *more: InferInput) -> dict[str, list[Any]]:
    result = client.infer(TIER, [tensor("text_input", "BYTES", [text.encode()], np.object_), *more])
    names = ("text_output", "completion_tokens", "line_tokens", "prompt_tokens", "finish_reason", "stop_word")
    return {name: result.as_numpy(name).tolist() for name in names}


def test_there_is_one_row_per_sequence(client: InferenceServerClient) -> None:
    answer = generate(
        client,
        "xa",
        tensor("max_tokens", "INT32", [9], np.int32),
        tensor("stop_words", "BYTES", [b"de"], np.object_),
        tensor("num_return_sequences", "INT32", [2], np.int32),
    )
    assert answer == {
        "text_output": [b"bc", b"bc"],
        "completion_tokens": [4, 4],
        "line_tokens": [4, 4],
        "prompt_tokens": [2],
        "finish_reason": [b"stop", b"stop"],
        "stop_word": [b"de", b"de"],
    }


def test_everything_but_the_prompt_has_a_default(client: InferenceServerClient) -> None:
    assert generate(client, "w")["text_output"] == [b"xyz"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a" * 3073, "text_input has 3073 tokens, must have 3072 or fewer"),
        ("", "text_input is empty, must be UTF-8 text"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(client: InferenceServerClient, text: str, sentence: str) -> None:
    with pytest.raises(InferenceServerException) as raised:
        generate(client, text)
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert str(raised.value.message()).startswith(f"invalid request: {sentence}")


def test_a_checkpoint_that_cannot_be_loaded_stops_the_server_with_one_sentence(start_server: StartServer, tmp_path: Path) -> None:
    checkpoint = counting_checkpoint(tmp_path / "checkpoint")
    (checkpoint / "config.json").unlink()
    reason = rf"the checkpoint {checkpoint} cannot be loaded by TensorRT-LLM: {checkpoint} does not contain a config.json \(log"
    with pytest.raises(BuildError, match=rf"model '{TIER}': .*{reason}"):
        start_server([repository(checkpoint, tmp_path)])
