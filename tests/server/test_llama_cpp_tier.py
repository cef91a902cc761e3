"""The tier contract, met by llama.cpp on a real Triton with the real weights."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from codecascade.texts.prompts import solution_prompt
from codecascade.types import Task
from codecascade_build.errors import BuildError
from codecascade_build.recipes import LlamaCpp, load_recipe
from codecascade_build.render.llama_cpp import settings, tier_config
from codecascade_build.render.repository import model_source
from codecascade_build.server.process import RunningServer
from codecascade_client.client import AsyncCascadeClient
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tests.server import tier_client
from tests.server.real_server import StartServer
from tests.server.tier_client import Answer, inputs, refusal

pytestmark = [pytest.mark.triton, pytest.mark.models]

SMALL, LARGE = "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"
COUNTING = "1\n2\n3\n4\n"


@pytest.fixture
def client(qwen_server: RunningServer) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(qwen_server.grpc) as client:
        yield client


def generate(client: InferenceServerClient, tier: str = SMALL, **values: Any) -> Answer:
    return tier_client.generate(client, tier, **values)


def test_there_is_one_row_per_sequence(client: InferenceServerClient) -> None:
    answer = generate(
        client, text_input=COUNTING, max_tokens=7, num_return_sequences=2, stop_words=["never", "6\n7"], temperature=0.0
    )
    (total, again), (lowest, _), tokens = (answer.pop(name) for name in ("cum_log_probs", "min_log_prob", "log_prob_tokens"))
    assert tokens == [5, 5]
    assert total == again
    assert 5 * lowest <= total <= lowest < 0
    assert answer == {
        "text_output": [b"5\n", b"5\n"],
        "completion_tokens": [5, 5],
        "line_tokens": [2, 5, 2, 5],
        "prompt_tokens": [8],
        "finish_reason": [b"stop", b"stop"],
        "stop_word": [b"6\n7", b"6\n7"],
    }


def test_a_text_ends_after_the_lines_that_were_asked_for(client: InferenceServerClient) -> None:
    answer = generate(client, text_input=COUNTING, max_tokens=20, max_lines=2, temperature=0.0)
    assert (answer["text_output"], answer["completion_tokens"], answer["line_tokens"]) == ([b"5\n6"], [4], [2, 4])


@pytest.mark.parametrize("tier", [SMALL, LARGE])
def test_solutions_and_tests_asked_for_at_the_same_time_are_what_each_is_alone(client: InferenceServerClient, tier: str) -> None:
    head = "def double(x):\n"
    common: dict[str, Any] = {"tier": tier, "max_tokens": 8, "temperature": 1.5, "num_return_sequences": 2}
    alone = [
        generate(client, text_input=text, seed=seed, **common) for seed, text in enumerate((head, head + "    pass\n\nassert "))
    ]
    with ThreadPoolExecutor(4) as pool:
        calls = [
            pool.submit(generate, client, text_input=text, seed=seed, **common)
            for seed, text in [(0, head), (1, head + "    pass\n\nassert ")] * 2
        ]
        assert [call.result() for call in calls] == alone * 2


def test_a_prompt_that_leaves_no_room_in_the_context_is_refused_and_the_tier_answers_on(client: InferenceServerClient) -> None:
    assert refusal(client, SMALL, inputs(text_input="1\n" * 3000)) == (
        "invalid request: text_input has 6000 tokens, must have 4095 or fewer: the context holds 4096, completion included"
    )
    assert generate(client, text_input=COUNTING, max_tokens=1)["text_output"] == [b"5"]


def test_a_chat_whose_code_alone_is_too_long_is_refused_by_the_code_s_tokens(client: InferenceServerClient) -> None:
    prompt = solution_prompt("chatml", Task("1\n" * 3000), once=True)
    sentence = refusal(client, SMALL, inputs(text_input=prompt.text, literal_ranges=list(prompt.literal_ranges)))
    assert sentence.startswith("invalid request: the prompt has 6000 tokens without its template, must have 40")


async def test_a_special_token_in_a_docstring_changes_no_answer_of_the_cascade(qwen_server: RunningServer) -> None:
    """The twin of a prompt whose mark is no token is answered alike."""
    async with AsyncCascadeClient(qwen_server.grpc) as cascade:

        async def answer(mark: str) -> str:
            docstring = f'"""Return the sum of a and b. The record ends with {mark}."""'
            answered = await cascade.complete(f"def add(a, b):\n    {docstring}\n")
            assert docstring in answered.text
            return answered.text.partition(docstring)[2]

        assert await answer("<|im_end|>") == await answer("[END]") == "\n    return a + b\n"


def test_a_cancel_over_grpc_frees_the_tier(client: InferenceServerClient) -> None:
    """Uncancelled, the first call would go on for hours."""
    ended = threading.Event()
    errors: list[InferenceServerException] = []

    def done(result: object, error: InferenceServerException) -> None:
        errors.append(error)
        ended.set()

    call = client.async_infer(SMALL, inputs(text_input=COUNTING, max_tokens=1024, num_return_sequences=100), done)
    assert generate(client, LARGE, text_input=COUNTING, max_tokens=8)["completion_tokens"] == [8]  # beside the other
    call.cancel()
    ended.wait()
    assert errors[0].status() == "StatusCode.CANCELLED"
    assert generate(client, text_input=COUNTING, max_tokens=1)["text_output"] == [b"5"]


def test_llama_cpp_keeps_to_itself_what_it_does(client: InferenceServerClient, qwen_server: RunningServer) -> None:
    before = qwen_server.log_text()
    generate(client, text_input=COUNTING, max_tokens=2)
    assert qwen_server.log_text() == before
    assert "llama" not in before.replace("llama_cpp", "").replace("llama.cpp.sock", "").lower()


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A repository with the small tier alone, its weights to be put at weights.gguf."""
    folder = tmp_path / "repository" / SMALL
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text(model_source("llama_cpp"))
    (folder / "config.pbtxt").write_text(tier_config(SMALL, small_settings(), tmp_path / "weights.gguf"))
    return tmp_path


def small_settings() -> LlamaCpp:
    return settings(load_recipe("qwen2.5-coder"), "llama_cpp")[SMALL]


def test_a_tier_without_its_weights_does_not_load(start_server: StartServer, broken: Path) -> None:
    with pytest.raises(BuildError, match=rf"the weights file {broken}/weights.gguf cannot be read: No such file or directory"):
        start_server([broken / "repository"])


def test_a_tier_with_damaged_weights_does_not_load(start_server: StartServer, broken: Path) -> None:
    (broken / "weights.gguf").write_bytes(b"GGUF" + bytes(1000))
    with pytest.raises(BuildError, match=rf"the weights file {broken}/weights.gguf cannot be loaded"):
        start_server([broken / "repository"])


def test_a_parameter_that_is_no_number_is_named(start_server: StartServer, broken: Path) -> None:
    config = broken / "repository" / SMALL / "config.pbtxt"
    config.write_text(config.read_text().replace(f'string_value: "{small_settings().context_tokens}"', 'string_value: "many"'))
    with pytest.raises(BuildError, match=r"parameter context_tokens"):
        start_server([broken / "repository"])
