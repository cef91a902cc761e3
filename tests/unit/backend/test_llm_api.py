"""The LLM API behind the tier contract, with a fake of its package: the same names and parameters, a model that counts."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
from collections.abc import Awaitable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from codecascade.errors import InvalidRequest, TierUnavailable
from codecascade.tiers.contract import GenerateRequest, Generation, sequence_seed
from codecascade.tiers.trtllm.llm_api import LlmApi, LlmApiSettings, prepare_environment
from codecascade.types import Sample
from codecascade_build.paths import ROOT

from tests.conversion import need_conversion
from tests.fake_tensorrt_llm.counting import END_TOKENS, counting_checkpoint

need_conversion()
from codecascade.tiers.trtllm.tokenizer import load_tokenizer

CONTRACT = json.loads((ROOT / "build" / "contracts" / "1.2.1.json").read_text())
FAKE = ROOT / "tests" / "fake_tensorrt_llm"


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(FAKE))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    import tensorrt_llm

    yield tensorrt_llm
    tensorrt_llm.LOADED.clear()
    tensorrt_llm.ABORTED.clear()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return counting_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def settings(checkpoint: Path) -> LlmApiSettings:
    return LlmApiSettings(
        checkpoint=checkpoint,
        dtype="bfloat16",
        gpu_device_ids=(2, 3),
        max_batch_size=8,
        max_input_tokens=20,
        context_tokens=24,
        kv_cache_tokens=640,
        kv_cache_share=0.95,
    )


@pytest.fixture
def engine(package: Any, checkpoint: Path) -> LlmApi:
    return LlmApi(settings(checkpoint), load_tokenizer(checkpoint, END_TOKENS))


def request(text: str, **changes: Any) -> GenerateRequest:
    plain = GenerateRequest("tier", text, (), max_tokens=6, temperature=0.0, top_p=1.0, seed=1, num_return_sequences=1)
    return replace(plain, **changes)


async def without_log_probs(generating: Awaitable[Generation]) -> Generation:
    """They have a test of their own."""
    generation = await generating
    return replace(generation, samples=tuple(replace(sample, log_probs=None) for sample in generation.samples))


def test_the_fake_takes_nothing_that_tensorrt_llm_does_not(package: Any) -> None:
    from tensorrt_llm.llmapi import KvCacheConfig

    for name, fake in {
        "tensorrt_llm.LLM": package.LLM,
        "tensorrt_llm.LLM.generate_async": package.LLM.generate_async,
        "tensorrt_llm.SamplingParams": package.SamplingParams,
        "tensorrt_llm.llmapi.KvCacheConfig": KvCacheConfig,
    }.items():
        real = {parameter["name"]: parameter for parameter in CONTRACT["signatures"][name]["parameters"]}
        for parameter in inspect.signature(fake).parameters.values():
            there = real[parameter.name]
            assert there.get("kind", parameter.kind.name) == parameter.kind.name, (name, parameter.name)
            default = None if parameter.default is parameter.empty else repr(parameter.default)
            assert there.get("default") == default, (name, parameter.name)


def test_other_keywords_of_the_llm_api_are_among_those_that_it_takes(engine: LlmApi, package: Any) -> None:
    signature = CONTRACT["signatures"]["tensorrt_llm.LLM"]
    known = {parameter["name"] for parameter in signature["parameters"]}
    for name in package.LOADED[0].arguments:
        assert name in known or re.search(rf"\b{name}\b", signature["source"]["note"]), name


async def test_greedy_counts_on(engine: LlmApi) -> None:
    assert await without_log_probs(engine.generate(request("xa"))) == Generation((Sample("bcdefg", 6, "length", (6,)),), 2)


async def test_a_stop_word_is_cut_and_paid_for_and_the_model_is_stopped_there(engine: LlmApi) -> None:
    assert (await without_log_probs(engine.generate(request("a", stop_words=("zz", "de"))))).samples == (
        Sample("bc", 4, "stop", (4,), "de"),
    )


async def test_a_text_ends_before_what_may_have_been_a_stop_word(engine: LlmApi) -> None:
    assert (await without_log_probs(engine.generate(request("a", stop_words=("fgh",))))).samples == (
        Sample("bcde", 6, "length", (6,)),
    )


async def test_a_sequence_is_aborted_after_the_lines_that_were_asked_for(engine: LlmApi, package: Any) -> None:
    whole = await without_log_probs(engine.generate(request("n")))
    assert whole.samples == (Sample("op\nqrs", 6, "length", (3, 6)),)
    assert await without_log_probs(engine.generate(request("n", max_lines=2))) == whole
    assert package.ABORTED == []
    cut = await without_log_probs(engine.generate(request("n", max_lines=1, num_return_sequences=2)))
    assert cut.samples == (Sample("op", 3, "stop", (3,)),) * 2
    assert package.ABORTED == [3, 4]


@pytest.mark.parametrize("end_tokens", [END_TOKENS, END_TOKENS[::-1]], ids=["kept to itself", "returned"])
async def test_the_model_s_own_end_is_counted(package: Any, checkpoint: Path, end_tokens: tuple[str, str]) -> None:
    """The end token that comes after z is the end_id, or one of the others."""
    engine = LlmApi(settings(checkpoint), load_tokenizer(checkpoint, end_tokens))
    assert (await without_log_probs(engine.generate(request("x")))).samples == (Sample("yz", 3, "stop", (3,)),)


async def test_every_sequence_has_a_seed_of_its_own_and_the_same_for_the_same_request(engine: LlmApi, package: Any) -> None:
    asked = request("a", temperature=0.8, top_p=0.95, seed=5, num_return_sequences=3)
    assert await engine.generate(asked) == await engine.generate(asked)
    told = package.LOADED[0].asked
    assert [item.seed for item in told] == [sequence_seed(5, sequence) for sequence in range(3)] * 2
    assert {(item.temperature, item.top_k, item.top_p) for item in told} == {(0.8, None, 0.95)}


async def test_greedy_is_top_k_1_and_no_value_that_is_refused(engine: LlmApi, package: Any) -> None:
    await engine.generate(request("a"))
    (told,) = package.LOADED[0].asked
    assert (told.temperature, told.top_k, told.top_p) == (1.0, 1, 1.0)


async def test_the_first_end_token_is_the_end_id_and_the_others_stop_the_model_too(engine: LlmApi, package: Any) -> None:
    await engine.generate(request("a"))
    (told,) = package.LOADED[0].asked
    assert (told.end_id, told.stop_token_ids) == (27, [28])


async def test_a_completion_ends_where_the_context_does(engine: LlmApi) -> None:
    generation = await without_log_probs(engine.generate(request("a" * 20, max_tokens=30)))
    assert generation == Generation((Sample("bcde", 4, "length", (4,)),), 20)


async def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(engine: LlmApi) -> None:
    with pytest.raises(InvalidRequest, match=r"text_input has 21 tokens, must have 20 or fewer$"):
        await engine.generate(request("a" * 21))


async def test_cancelling_aborts_every_sequence(engine: LlmApi, package: Any) -> None:
    call = asyncio.ensure_future(engine.generate(request("a", num_return_sequences=3)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert package.ABORTED == [1, 2, 3]


async def test_a_request_that_fails_is_one_sentence_and_takes_its_other_sequences_along(engine: LlmApi, package: Any) -> None:
    with pytest.raises(TierUnavailable, match=r"^TensorRT-LLM failed: the executor died$"):
        await engine.generate(request("a", max_tokens=package.FAILS_AT, num_return_sequences=2))
    assert package.ABORTED == [1, 2]


async def test_requests_run_side_by_side(engine: LlmApi) -> None:
    answers = await asyncio.gather(*(engine.generate(request(item)) for item in "abc"))
    assert [answer.samples[0].text for answer in answers] == ["bcdefg", "cdefgh", "defghi"]


def test_the_settings_reach_the_llm_api(engine: LlmApi, package: Any) -> None:
    (loaded,) = package.LOADED
    assert loaded.arguments | {"kv_cache_config": None} == {
        "tensor_parallel_size": 2,
        "dtype": "bfloat16",
        "max_batch_size": 8,
        "max_input_len": 20,
        "max_seq_len": 24,
        "kv_cache_config": None,
    }
    assert (loaded.cache.enable_block_reuse, loaded.cache.max_tokens) == (True, 640)
    assert loaded.cache.free_gpu_memory_fraction == 0.95
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"
    engine.close()
    assert loaded.is_shut_down


def test_a_checkpoint_that_cannot_be_loaded_is_named(package: Any, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TierUnavailable,
        match=rf"^the checkpoint {tmp_path} cannot be loaded by TensorRT-LLM: {tmp_path} does not contain a config.json$",
    ):
        LlmApi(settings(tmp_path), load_tokenizer(checkpoint, END_TOKENS))


def test_the_ranks_of_the_llm_api_do_not_take_the_server_s_mpi_job_for_theirs() -> None:
    environ = {"OMPI_COMM_WORLD_RANK": "0", "PMIX_RANK": "0", "PMI_SIZE": "2", "OMPI_MCA_btl": "self", "PATH": "/bin"}
    prepare_environment(environ, (1,))
    assert environ == {"OMPI_MCA_btl": "self", "PATH": "/bin", "CUDA_VISIBLE_DEVICES": "1"}


@pytest.mark.parametrize("max_lines", [None, 3])
async def test_log_probabilities_are_of_the_chosen_tokens(engine: LlmApi, max_lines: int | None) -> None:
    (sample,) = (await engine.generate(request("a", max_tokens=4, max_lines=max_lines))).samples
    (tokens,) = {sample.completion_tokens}
    assert sample.log_probs is not None
    assert sample.log_probs.tokens == tokens == 4
    first = -sample.log_probs.total * 100 / 4 - 1.5  # the model counts, so the mean is the first token's and 1.5 more
    assert sample.log_probs.lowest == pytest.approx(-(first + 3) / 100)
