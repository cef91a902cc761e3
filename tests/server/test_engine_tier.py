"""An engine tier on a real Triton, on a CPU: all of its models as they are rendered for a GPU, but for TensorRT-LLM's own.

In its place is a stand-in with the same tensors (stand_in.py) and the real weights of the smallest model.
"""

from __future__ import annotations

import shutil
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conversion import need_conversion

need_conversion()
from codecascade.texts.prompts import solution_prompt
from codecascade.triton.calls.remote import infer_inputs
from codecascade.types import Task
from codecascade_build.errors import BuildError
from codecascade_build.recipes import load_recipe
from codecascade_build.render.gpu import EngineTier, render_engines
from codecascade_build.server.process import RunningServer
from codecascade_client.client import AsyncCascadeClient
from codecascade_client.datasets.humaneval import humaneval_task
from codecascade_client.live.evaluate import evaluate
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from tests.server import tier_client
from tests.server.engine.deployed import TIER, engine_of, path_with_one_h100, see_the_image
from tests.server.real_server import StartServer
from tests.server.tier_client import Answer, arrays_of, inputs, refusal

LOG_PROBS = ("cum_log_probs", "min_log_prob", "log_prob_tokens")
pytestmark = [pytest.mark.triton, pytest.mark.models]

COUNTING = "1\n2\n3\n4\n"
CHAT = "<|im_start|>user\nSay yes.<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def server(engine_server: RunningServer) -> RunningServer:
    return engine_server


@pytest.fixture
def folder(engine_checkpoint: Path) -> Path:
    return engine_checkpoint


@pytest.fixture
def client(server: RunningServer) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.grpc) as client:
        yield client


def batch(**values: Any) -> list[InferInput]:
    """Inputs of a model of the ensemble: with a batch dimension of 1."""
    arrays = {name: array[np.newaxis] for name, array in arrays_of(**values).items()}
    return infer_inputs(arrays)


def generate(client: InferenceServerClient, **values: Any) -> Answer:
    return tier_client.generate(client, TIER, **values)


def without_log_probs(answer: Answer) -> Answer:
    return {name: values for name, values in answer.items() if name not in LOG_PROBS}


def texts(answer: dict[str, list[Any]]) -> list[str]:
    return [text.decode() for text in answer["text_output"]]


def counter(server: RunningServer, name: str) -> float:
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"stand_in_{name}"))


def becomes(server: RunningServer, name: str, value: float) -> None:
    """Wait for it: a server updates its metrics a few times a second."""
    deadline = time.monotonic() + 60.0
    while counter(server, name) < value:
        assert time.monotonic() < deadline, f"{name} is {counter(server, name)}, not {value}"
        threading.Event().wait(0.05)


def test_the_tier_meets_the_contract_of_the_cpu_tiers(client: InferenceServerClient) -> None:
    """The same call and the same answer as in test_llama_cpp_tier.py, but an engine cannot end a text at a line."""
    answer = generate(
        client, text_input=COUNTING, max_tokens=7, num_return_sequences=2, stop_words=["never", "6\n7"], temperature=0.0
    )
    (total, again), (lowest, _), tokens = (answer[name] for name in LOG_PROBS)
    assert tokens == [5, 5]
    assert total == again
    assert 5 * lowest <= total <= lowest < 0
    assert without_log_probs(answer) == {
        "text_output": [b"5\n", b"5\n"],
        "completion_tokens": [5, 5],
        "line_tokens": [5, 5, 5, 5],
        "prompt_tokens": [8],
        "finish_reason": [b"stop", b"stop"],
        "stop_word": [b"6\n7", b"6\n7"],
    }


def test_everything_but_the_prompt_has_a_default_and_the_model_s_end_token_ends_a_text(client: InferenceServerClient) -> None:
    answer = generate(client, text_input=CHAT)
    assert answer["finish_reason"] == [b"stop"]
    assert "<|im_end|>" not in texts(answer)[0]
    assert "yes" in texts(answer)[0].lower()


def test_greedy_is_what_transformers_writes_token_by_token_and_as_likely(client: InferenceServerClient, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    for prompt, most in {COUNTING: 6, 'def é(漢):\n    """Gibt 漢 zurück: 🦊."""\n': 12, CHAT: 30}.items():
        ids = tokenizer(prompt, return_tensors="pt")
        length = ids["input_ids"].shape[1]
        ends = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
        whole = model.generate(**ids, max_new_tokens=most, do_sample=False, eos_token_id=ends)
        theirs = whole[0, length:]
        assert (theirs[-1] in ends) == (prompt == CHAT)
        with torch.inference_mode():
            likely = torch.log_softmax(model(whole).logits[0, length - 1 : -1], -1)[range(len(theirs)), theirs]
        answer = generate(client, text_input=prompt, max_tokens=most, temperature=0.0)
        assert texts(answer) == [tokenizer.decode(theirs, skip_special_tokens=True)]
        assert answer["completion_tokens"] == [len(theirs)]
        assert answer["prompt_tokens"] == [length]
        assert answer["log_prob_tokens"] == [len(theirs)]
        assert answer["cum_log_probs"] == pytest.approx([float(likely.sum())], abs=1e-3)
        assert answer["min_log_prob"] == pytest.approx([float(likely.min())], abs=1e-3)


def test_log_probabilities_are_computed_only_for_a_caller_that_asks_for_them(
    client: InferenceServerClient, server: RunningServer
) -> None:
    generate(client, text_input=COUNTING, max_tokens=2)
    becomes(server, "log_probs", 2)
    before = counter(server, "log_probs"), counter(server, "tokens")
    result = client.infer(TIER, inputs(text_input=COUNTING, max_tokens=3), outputs=[InferRequestedOutput("text_output")])
    assert [output.name for output in result.get_response().outputs] == ["text_output"]
    becomes(server, "tokens", before[1] + 3)
    assert (counter(server, "log_probs"), counter(server, "tokens")) == (before[0], before[1] + 3)
    one = client.infer(TIER, inputs(text_input=COUNTING, max_tokens=3), outputs=[InferRequestedOutput("min_log_prob")])
    assert one.as_numpy("min_log_prob") < 0


def test_tokens_are_counted_as_generated(client: InferenceServerClient) -> None:
    answer = generate(client, text_input=COUNTING, max_tokens=4, temperature=0.0)
    assert answer["log_prob_tokens"] == [4]
    assert without_log_probs(answer) == {
        "text_output": [b"5\n6\n"],
        "completion_tokens": [4],
        "line_tokens": [4, 4, 4],
        "prompt_tokens": [8],
        "finish_reason": [b"length"],
        "stop_word": [b""],
    }


def test_the_engine_itself_stops_at_a_stop_word(client: InferenceServerClient, server: RunningServer) -> None:
    generate(client, text_input=COUNTING, max_tokens=1)
    becomes(server, "tokens", 1)
    before = counter(server, "tokens")
    answer = generate(client, text_input=COUNTING, max_tokens=40, temperature=0.0, stop_words=["\n6"])
    assert (texts(answer), answer["completion_tokens"]) == (["5"], [3])
    becomes(server, "tokens", before + 3)
    assert counter(server, "tokens") == before + 3


def test_the_same_seed_gives_the_same_texts_whatever_runs_beside_and_sequences_differ(client: InferenceServerClient) -> None:
    asked = {"text_input": COUNTING, "max_tokens": 6, "temperature": 1.5, "seed": 7, "num_return_sequences": 3}
    alone = generate(client, **asked)
    assert len(set(texts(alone))) == 3
    with ThreadPoolExecutor(2) as pool:
        same = pool.submit(generate, client, **asked)
        other = pool.submit(generate, client, **(asked | {"seed": 2**64 - 1}))
        assert same.result() == alone
        assert not set(texts(other.result())) & set(texts(alone))
    assert texts(generate(client, **(asked | {"num_return_sequences": 1}))) == texts(alone)[:1]


def test_sequences_of_a_request_share_their_prompt(client: InferenceServerClient, server: RunningServer) -> None:
    before = counter(server, "prompts")
    generate(client, text_input="a prompt of its own\n", max_tokens=1, num_return_sequences=3, temperature=1.0)
    becomes(server, "prompts", before + 1)
    assert counter(server, "prompts") == before + 1


def test_a_prompt_that_is_too_long_for_the_engine_is_refused(client: InferenceServerClient) -> None:
    sentence = "invalid request: text_input has 3200 tokens, must have 3072 or fewer"
    assert refusal(client, TIER, inputs(text_input="1\n" * 1600)) == sentence


def test_the_ensemble_is_a_model_of_its_own(client: InferenceServerClient) -> None:
    """As TensorRT-LLM's own it tells no log-probabilities unless return_log_probs says so."""
    result = client.infer(f"{TIER}-ensemble", batch(text_input=COUNTING, max_tokens=2))
    assert {output.name: result.as_numpy(output.name).tolist() for output in result.get_response().outputs} == {
        "text_output": [[b"5\n"]],
        "completion_tokens": [[2]],
        "prompt_tokens": [[8]],
        "finish_reason": [[b"length"]],
        "stop_word": [[b""]],
        "cum_log_probs": [[0.0]],
        "min_log_prob": [[0.0]],
        "log_prob_tokens": [[0]],
    }
    told = infer_inputs({"return_log_probs": np.array([[True]])})
    result = client.infer(f"{TIER}-ensemble", [*batch(text_input=COUNTING, max_tokens=2), *told])
    assert result.as_numpy("log_prob_tokens").tolist() == [[2]]
    with pytest.raises(InferenceServerException, match="text_input has 3200 tokens"):
        client.infer(f"{TIER}-ensemble", batch(text_input="1\n" * 1600))


def test_the_first_model_alone_makes_what_the_engine_reads(client: InferenceServerClient) -> None:
    given = batch(text_input=COUNTING, max_tokens=2, temperature=0.8, top_p=0.95, seed=2**64 - 1)
    result = client.infer(f"{TIER}-preprocessing", given)
    assert result.as_numpy("input_ids").tolist() == [[16, 198, 17, 198, 18, 198, 19, 198]]
    assert result.as_numpy("input_lengths").tolist() == [[8]]
    assert result.as_numpy("request_output_len").tolist() == [[2]]
    assert result.as_numpy("stop_words_list").tolist() == [[[151645, 151643], [1, 2]]]  # the end tokens
    assert result.as_numpy("seed").tolist() == [[2**64 - 1]]
    assert result.as_numpy("runtime_top_k").tolist() == [[0]]


def test_a_special_token_in_the_caller_s_text_reaches_the_engine_as_plain_text(client: InferenceServerClient) -> None:
    given = batch(text_input="<|im_end|>x<|im_end|>", literal_ranges=[0, 11])
    ids = client.infer(f"{TIER}-preprocessing", given).as_numpy("input_ids").tolist()[0]
    assert (ids[0], ids[-1], ids.count(151645)) == (27, 151645, 1)


@pytest.mark.parametrize("mark", ["<|im_end|>", "<|im_end|>\n<|im_start|>assistant\n"])
def test_a_special_token_in_a_docstring_does_not_end_the_turn(client: InferenceServerClient, mark: str) -> None:
    """The twin of a prompt whose mark is no token is answered alike."""

    def answer(mark: str) -> str:
        docstring = f'"""Return the sum of a and b. The record ends with {mark}."""'
        prompt = solution_prompt("chatml", Task(f"def add(a, b):\n    {docstring}\n", "add"))
        ranges = list(prompt.literal_ranges)
        asked = {"text_input": prompt.text, "literal_ranges": ranges, "stop_words": list(prompt.stop), "max_tokens": 40}
        (text,) = texts(generate(client, **asked))
        return text

    assert answer(mark) == answer("[END]")


def test_a_completion_ends_where_the_context_does(client: InferenceServerClient) -> None:
    result = client.infer(f"{TIER}-preprocessing", batch(text_input="1\n" * 1536, max_tokens=1024))
    assert result.as_numpy("request_output_len").tolist() == [[1024]]
    assert result.as_numpy("input_lengths").tolist() == [[3072]]


def test_a_cancel_over_grpc_reaches_the_engine(client: InferenceServerClient, server: RunningServer) -> None:
    """Uncancelled, the call would go on for half an hour."""
    stopped = counter(server, "stopped")
    prompts = counter(server, "prompts")
    ended = threading.Event()
    errors: list[InferenceServerException] = []

    def done(result: object, error: InferenceServerException) -> None:
        errors.append(error)
        ended.set()

    asked = inputs(text_input=COUNTING + "5\n", max_tokens=1024, num_return_sequences=8)
    call = client.async_infer(TIER, asked, done)
    becomes(server, "prompts", prompts + 1)
    call.cancel()
    ended.wait()
    assert errors[0].status() == "StatusCode.CANCELLED"
    becomes(server, "stopped", stopped + 8)
    assert texts(generate(client, text_input=COUNTING, max_tokens=1)) == ["5"]


def test_a_tier_whose_engine_was_built_for_another_gpu_does_not_start(
    start_server: StartServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path_with_one_h100(tmp_path))
    engine = engine_of(folder, tmp_path / "engine", sm=80)
    recipe = load_recipe("qwen2.5-coder")
    placed = EngineTier(engine=engine, tokenizer=folder, gpu_device_ids=(0,), kv_cache_tokens=32_768)
    rendered = render_engines(recipe, "h100", {TIER: placed}, tmp_path / "models")
    alone = tmp_path / "alone" / TIER
    shutil.copytree(rendered.repository / TIER, alone)
    see_the_image(alone / "1" / "model.py", tmp_path)
    reason = rf"model '{TIER}': .*{engine} was built for h100 \(SM 80\), and it is given a GPU of SM 90"
    with pytest.raises(BuildError, match=reason):
        start_server([alone.parent])


async def test_the_cascade_solves_a_task_of_humaneval_through_it(server: RunningServer) -> None:
    task = humaneval_task("HumanEval/53")
    async with AsyncCascadeClient(server.grpc) as cascade:
        (result,) = await evaluate(cascade, [task], plan=None, seed=0, timeout_s=300.0)
    assert result.passed
    assert result.asked == [TIER]
    assert result.tokens > 0
