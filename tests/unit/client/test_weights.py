"""Many prompts at a time under transformers: as one by one, and as the tier contract wants them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from codecascade.errors import InvalidRequest, TierUnavailable
from codecascade.tiers.contract import GenerateRequest, Generation

from tests.conversion import need_conversion

need_conversion()
import gguf
import torch
from codecascade.tiers.trtllm.tokenizer import tokenizer_of
from codecascade.tiers.trtllm.tokens import Tokenizer
from codecascade_client.live.weights import Batches, tokenizer_in, weights_of
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

PROMPTS = ["def f(x):\n", "a", "assert f(1) == 2\nassert g", "class A:\n    def h(self):\n"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A token for every byte, and one that ends a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    library = Library(models.BPE({token: number for number, token in enumerate([*alphabet, "<|im_end|>"])}, []))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    return tokenizer_of(PreTrainedTokenizerFast(tokenizer_object=library), ["<|im_end|>"])


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=257, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    return Qwen2ForCausalLM(config).eval()


def test_special_tokens_are_those_of_the_file(tmp_path: Path) -> None:
    """transformers takes three of Qwen's for such, and reads the others as plain text."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>"]
    alphabet = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "cd"]
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", "qwen2")
    for name in ("block_count", "context_length", "embedding_length", "feed_forward_length", "head_count", "head_count_kv"):
        writer.add_uint32(f"qwen2.{'attention.' if name.startswith('head') else ''}{name}", 2)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*alphabet, *special])
    writer.add_token_types([gguf.TokenType.NORMAL] * len(alphabet) + [gguf.TokenType.CONTROL] * len(special))
    writer.add_token_merges(["a b", "c d"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    tokenizer = tokenizer_in(tmp_path / "tiny.gguf")
    ids = {name: len(alphabet) + number for number, name in enumerate(special)}
    assert list(tokenizer.encode_on("<|fim_prefix|>a<|im_end|>")) == [
        ids["<|fim_prefix|>"],
        alphabet.index("a"),
        ids["<|im_end|>"],
    ]
    assert tokenizer.text([ids["<|fim_prefix|>"], alphabet.index("a")]) == "a"
    assert set(tokenizer.end_ids) == {ids["<|im_end|>"], ids["<|endoftext|>"]}


def request(prompt: str, **fields: Any) -> GenerateRequest:
    asked = {"max_tokens": 24, "temperature": 0.0, "top_p": 0.95, "seed": 7, "num_return_sequences": 1, "stop_words": ()}
    return GenerateRequest(tier="t", text_input=prompt, **{**asked, **fields})


async def answers(batches: Batches, requests: list[GenerateRequest]) -> list[Generation]:
    return list(await asyncio.gather(*map(batches.generate, requests)))


def reference(model: Any, tokenizer: Tokenizer, prompt: str, tokens: int) -> list[int]:
    """The likeliest tokens one by one, each from the whole text so far."""
    ids = list(tokenizer.encode(prompt))
    start = len(ids)
    while len(ids) - start < tokens and (len(ids) == start or ids[-1] not in tokenizer.end_ids):
        with torch.inference_mode():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[start:]


async def test_prompts_of_any_length_are_answered_as_one_by_one(model: Any, tokenizer: Tokenizer) -> None:
    together = await answers(Batches("t", model, tokenizer, 200), [request(prompt) for prompt in PROMPTS])
    for prompt, answer in zip(PROMPTS, together, strict=True):
        ids = reference(model, tokenizer, prompt, 24)
        assert answer.samples[0].text == tokenizer.text(ids)
        assert answer.samples[0].completion_tokens == len(ids)
        assert answer.prompt_tokens == len(prompt)


async def test_log_probabilities_are_those_of_the_tokens(model: Any, tokenizer: Tokenizer) -> None:
    (answer,) = await answers(Batches("t", model, tokenizer, 200), [request(PROMPTS[0], max_tokens=5)])
    ids = [*tokenizer.encode(PROMPTS[0]), *reference(model, tokenizer, PROMPTS[0], 5)]
    with torch.inference_mode():
        told = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)
    wanted = [float(told[place - 1, ids[place]]) for place in range(len(ids) - 5, len(ids))]
    log_probs = answer.samples[0].log_probs
    assert log_probs is not None
    assert log_probs.tokens == 5
    assert log_probs.lowest == pytest.approx(min(wanted), abs=1e-4)
    assert log_probs.total == pytest.approx(sum(wanted), abs=1e-4)


async def test_a_sampled_text_depends_on_its_seed_not_on_its_company(model: Any, tokenizer: Tokenizer) -> None:
    wanted = request(PROMPTS[0], temperature=0.8, num_return_sequences=3)
    (alone,) = await answers(Batches("t", model, tokenizer, 200), [wanted])
    among = await answers(Batches("t", model, tokenizer, 200), [*map(request, PROMPTS), wanted])
    other = await answers(Batches("t", model, tokenizer, 200), [request(PROMPTS[0], temperature=0.8, seed=8)])
    texts = [sample.text for sample in alone.samples]
    assert [sample.text for sample in among[-1].samples] == texts
    assert len({*texts, other[0].samples[0].text}) == 4


async def test_a_text_ends_at_its_stop_word_and_its_limit(model: Any, tokenizer: Tokenizer) -> None:
    batches = Batches("t", model, tokenizer, 200)
    whole = (await answers(batches, [request(PROMPTS[1])]))[0].samples[0]
    stop = next(character for character in whole.text if character.isascii())
    asked = [request(PROMPTS[1], stop_words=(stop,)), request(PROMPTS[1], max_tokens=1)]
    stopped, single = (answer.samples[0] for answer in await answers(batches, asked))
    assert (stopped.text, stopped.stop_word, stopped.finish_reason) == (whole.text[: whole.text.index(stop)], stop, "stop")
    assert stopped.completion_tokens < whole.completion_tokens
    assert (single.completion_tokens, single.finish_reason) == (1, "length")


async def test_a_batch_that_memory_does_not_hold_is_halved(
    model: Any, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = await answers(Batches("t", model, tokenizer, 200), [request(prompt) for prompt in PROMPTS])
    forward, held = model.forward, 2

    def small(ids: Any, **inputs: Any) -> Any:
        if len(ids) > held:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(ids, **inputs)

    monkeypatch.setattr(model, "forward", small)
    batches = Batches("t", model, tokenizer, 200)
    halved = await answers(batches, [request(prompt) for prompt in PROMPTS])
    assert [answer.samples[0].text for answer in halved] == [answer.samples[0].text for answer in wanted]
    held = 0
    with pytest.raises(TierUnavailable, match="tier t: OutOfMemoryError: CUDA out of memory"):
        await batches.generate(request(PROMPTS[0]))


async def test_a_prompt_longer_than_the_context_is_refused(model: Any, tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match="tokens"):
        await Batches("t", model, tokenizer, 8).generate(request(PROMPTS[2]))


def test_weights_are_found_by_their_hash(tmp_path: Path) -> None:
    (tmp_path / "any name.gguf").write_bytes(b"abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert weights_of(tmp_path, {"t": abc}) == {"t": tmp_path / "any name.gguf"}
    with pytest.raises(TierUnavailable, match=f"tier u: no GGUF file in {tmp_path} has its SHA-256, which is 00"):
        weights_of(tmp_path, {"t": abc, "u": "00"})
