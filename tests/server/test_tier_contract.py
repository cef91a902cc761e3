"""Every tier meets the contract, whatever runs it: one suite over scripted, llama.cpp, LLM API, engine and remote tiers.

On this machine the LLM API is a fake and an engine's TensorRT-LLM model a stand-in; everything before and behind them is real.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from codecascade.deployment import Deployment, Tier
from codecascade.errors import InvalidRequest
from codecascade.tiers.contract import INPUTS, OUTPUTS, GenerateRequest, Generation, Tensor, response_arrays
from codecascade.triton.calls.remote import RemoteTiers
from codecascade_build.render.repository import data_type
from codecascade_build.server.process import RunningServer
from tritonclient.grpc import InferenceServerClient, InferInput, model_config_pb2

from tests.server import tier_client
from tests.server.tier_client import Answer, inputs

pytestmark = pytest.mark.triton

QWEN = "qwen2.5-coder-0.5b"
ASSERTS = "def add(a, b):\n    pass\n# check the correctness of add\nassert "
COUNTING = "1\n2\n3\n4\n"


@dataclass(frozen=True)
class TierUnderTest:
    """A tier and how to ask it."""

    server: RunningServer
    name: str
    prompt: str
    """Is completed greedily by several lines."""
    stop: str
    """A word in these lines, not at their start."""
    special: str = "<|im_end|>"
    """The name of a special token of its model."""
    counts_lines: bool = True
    """Whether the tier can end a sequence at a line."""

    def generate(self, **values: Any) -> Answer:
        with InferenceServerClient(self.server.grpc) as client:
            return tier_client.generate(client, self.name, **values)

    def refusal(self, **values: Any) -> str:
        with InferenceServerClient(self.server.grpc) as client:
            return tier_client.refusal(client, self.name, inputs(**values)).removeprefix("invalid request: ")


class RemoteTier(TierUnderTest):
    """The same through the cascade's own calls to another Triton."""

    def generate(self, **values: Any) -> Answer:
        arrays = response_arrays(asyncio.run(self._ask(values)))
        return {name: array.tolist() for name, array in arrays.items()}

    def refusal(self, **values: Any) -> str:
        with pytest.raises(InvalidRequest) as raised:
            asyncio.run(self._ask(values))
        return str(raised.value).removeprefix(f"tier {self.name}: ")

    async def _ask(self, values: dict[str, Any]) -> Generation:
        tier = Tier(self.name, "base", context_tokens=2048, max_completion_tokens=512, price_per_mtok=1.0, url=self.server.grpc)
        tiers = RemoteTiers(Deployment("scripted", Path("plans.json"), {self.name: tier}))
        defaults = {tensor.name: tensor.default for tensor in INPUTS} | {"max_tokens": 256}
        try:
            return await tiers.generate(GenerateRequest(self.name, **(defaults | values)))
        finally:
            await tiers.close()


@pytest.fixture(
    scope="module",
    params=[
        "scripted",
        "remote",
        pytest.param("llama_cpp", marks=pytest.mark.models),
        "llm_api",
        pytest.param("engine", marks=pytest.mark.models),
    ],
)
def tier(request: pytest.FixtureRequest) -> TierUnderTest:
    server = {"remote": "scripted", "llama_cpp": "qwen"}.get(request.param, request.param) + "_server"
    running = request.getfixturevalue(server)
    if request.param == "scripted":
        return TierUnderTest(running, "small", ASSERTS, stop="assert add(3")
    if request.param == "remote":
        return RemoteTier(running, "small", ASSERTS, stop="assert add(3")
    if request.param == "llm_api":
        return TierUnderTest(running, QWEN, "xm", stop="qr", special="<end>")
    in_process = request.param == "llama_cpp"
    return TierUnderTest(running, QWEN, COUNTING, stop="7\n8", counts_lines=in_process)


def lines(answer: Answer) -> list[int]:
    return [text.count(b"\n") + 1 for text in answer["text_output"]]


def test_the_server_declares_the_tensors_of_the_table(tier: TierUnderTest) -> None:
    def declared(tensors: Any) -> list[tuple[str, str, list[int], bool]]:
        names = model_config_pb2.DataType
        return [(item.name, names.Name(item.data_type), list(item.dims), getattr(item, "optional", False)) for item in tensors]

    def of_table(tensors: tuple[Tensor, ...], inputs: bool) -> list[tuple[str, str, list[int], bool]]:
        return [(item.name, data_type(item), [item.length], inputs and not item.required) for item in tensors]

    with InferenceServerClient(tier.server.grpc) as client:
        config = client.get_model_config(tier.name).config
    assert declared(config.input) == of_table(INPUTS, inputs=True)
    assert declared(config.output) == of_table(OUTPUTS, inputs=False)


def test_there_is_one_row_per_sequence_and_one_prompt(tier: TierUnderTest) -> None:
    answer = tier.generate(text_input=tier.prompt, max_tokens=6, num_return_sequences=3)
    assert [len(answer[name]) for name in ("text_output", "completion_tokens", "finish_reason", "stop_word")] == [3, 3, 3, 3]
    assert len(answer["line_tokens"]) == sum(lines(answer))
    assert len(answer["prompt_tokens"]) == 1
    assert answer["prompt_tokens"][0] > 0


def test_everything_but_the_prompt_has_a_default_and_the_default_is_greedy(tier: TierUnderTest) -> None:
    whole = tier.generate(text_input=tier.prompt, stop_words=[tier.stop])
    told = tier.generate(text_input=tier.prompt, stop_words=[tier.stop], temperature=0.0, seed=1, num_return_sequences=2)
    assert told["text_output"] == whole["text_output"] * 2


def test_the_same_seed_gives_the_same_texts_however_many_are_asked_for(tier: TierUnderTest) -> None:
    asked = {"text_input": tier.prompt, "max_tokens": 6, "temperature": 1.5, "seed": 2**64 - 1}
    three = tier.generate(**asked, num_return_sequences=3)
    assert tier.generate(**asked, num_return_sequences=3) == three
    assert tier.generate(**asked)["text_output"] == three["text_output"][:1]


def test_a_sequence_ends_at_its_limit_and_says_so(tier: TierUnderTest) -> None:
    answer = tier.generate(text_input=tier.prompt, max_tokens=2)
    assert (answer["completion_tokens"], answer["finish_reason"], answer["stop_word"]) == ([2], [b"length"], [b""])


def test_a_stop_word_is_cut_from_the_text_and_named(tier: TierUnderTest) -> None:
    answer = tier.generate(text_input=tier.prompt, max_tokens=24, stop_words=["never written", tier.stop])
    assert (answer["finish_reason"], answer["stop_word"]) == ([b"stop"], [tier.stop.encode()])
    assert tier.stop.encode() not in answer["text_output"][0]
    beyond = tier.generate(text_input=tier.prompt, max_tokens=24)["text_output"][0]
    assert beyond.partition(tier.stop.encode())[0] == answer["text_output"][0]


def test_a_sequence_of_a_call_can_be_asked_for_alone(tier: TierUnderTest) -> None:
    drawn = {"text_input": tier.prompt, "max_tokens": 12, "temperature": 1.0, "seed": 4}
    together = tier.generate(**drawn, num_return_sequences=3)["text_output"]
    assert tier.generate(**drawn, num_return_sequences=2, first_sequence=1)["text_output"] == together[1:]


def test_log_probabilities_are_of_the_tokens_that_were_generated(tier: TierUnderTest) -> None:
    answer = tier.generate(text_input=tier.prompt, max_tokens=6, num_return_sequences=2, temperature=0.0)
    told = zip(answer["cum_log_probs"], answer["min_log_prob"], answer["log_prob_tokens"], strict=True)
    for (total, lowest, tokens), generated in zip(told, answer["completion_tokens"], strict=True):
        assert tokens == generated
        assert tokens * lowest <= total <= lowest <= 0


def test_line_tokens_rise_to_what_the_sequence_cost(tier: TierUnderTest) -> None:
    answer = tier.generate(text_input=tier.prompt, max_tokens=12, num_return_sequences=2)
    ends = list(itertools.accumulate(lines(answer)))
    for start, end, tokens in zip([0, *ends], ends, answer["completion_tokens"], strict=False):
        assert answer["line_tokens"][start:end] == sorted(answer["line_tokens"][start:end])
        assert answer["line_tokens"][end - 1] == tokens


def test_a_sequence_that_ends_after_its_lines_costs_what_line_tokens_say(tier: TierUnderTest) -> None:
    whole = tier.generate(text_input=tier.prompt, max_tokens=12)
    short = tier.generate(text_input=tier.prompt, max_tokens=12, max_lines=1)
    if tier.counts_lines:
        assert short["text_output"] == [whole["text_output"][0].split(b"\n")[0]]
        assert short["completion_tokens"] == whole["line_tokens"][:1]
    else:
        assert short == whole
        assert set(whole["line_tokens"]) == set(whole["completion_tokens"])


def test_a_special_token_is_plain_text_in_a_literal_range_alone(tier: TierUnderTest) -> None:
    def tokens(text: str, *literal_ranges: int) -> int:
        answer = tier.generate(text_input=text, max_tokens=1, literal_ranges=list(literal_ranges))
        return int(answer["prompt_tokens"][0])

    unit = f"{tier.special} x\n"
    end, whole = len(tier.special), len(unit)
    as_special, as_text = tokens(unit), tokens(unit, 0, whole)
    assert as_special < as_text
    assert tokens(unit + unit) == 2 * as_special
    assert tokens(unit + unit, 0, end) == tokens(unit + unit, whole, whole + end) == as_special + as_text
    assert tokens(unit + unit, 0, 2 * whole) == 2 * as_text
    assert tokens(tier.prompt, 0, len(tier.prompt)) == tokens(tier.prompt)


@pytest.mark.parametrize(
    ("offsets", "sentence"),
    [
        ([1], "literal_ranges has 1 offsets, must have a start and an end for each range"),
        ([0, 5], "literal_ranges[1] is 5, must be 1 to 4: offsets rise"),
        ([3, 1], "literal_ranges[1] is 1, must be 4 to 4: offsets rise"),
        ([-1, 2], "literal_ranges[0] is -1, must be 0 to 4: offsets rise"),
        ([0, 2], "literal_ranges[1] is 2, must be where a character begins: that byte is inside one"),
    ],
    ids=str,
)
def test_ranges_that_are_none_are_refused(tier: TierUnderTest, offsets: list[int], sentence: str) -> None:
    assert tier.refusal(text_input="aéb", literal_ranges=offsets) == sentence


def refused_numbers() -> list[tuple[str, float]]:
    """Just outside of every range in the table that its type can leave."""
    refused: list[tuple[str, float]] = []
    for tensor in INPUTS:
        if tensor.datatype == "FP32":
            refused += [(tensor.name, tensor.low - 0.5), (tensor.name, tensor.high + 0.5), (tensor.name, float("nan"))]
        elif tensor.datatype == "INT32" and tensor.length == 1:
            refused += [(tensor.name, tensor.low - 1), (tensor.name, -(2**31))]
            refused += [(tensor.name, tensor.high + 1)] if 0 < tensor.high < 2**31 - 1 else []
    return [*refused, ("max_tokens", 2**31 - 1)]


@pytest.mark.parametrize(("name", "value"), refused_numbers())
def test_a_number_outside_of_its_range_is_refused_with_the_range(tier: TierUnderTest, name: str, value: float) -> None:
    sentence = tier.refusal(**{"text_input": tier.prompt, name: value})
    assert sentence.startswith(f"{name} is {value:g}, must be " if isinstance(value, float) else f"{name} is {value}, must be ")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"text_input": ""}, "text_input is empty, must be UTF-8 text of at least one character"),
        ({"stop_words": ["a", ""]}, "stop_words[1] is empty, must be UTF-8 text of at least one character"),
    ],
    ids=str,
)
def test_an_empty_text_is_refused(tier: TierUnderTest, values: dict[str, Any], sentence: str) -> None:
    assert tier.refusal(**{"text_input": tier.prompt, **values}) == sentence


def test_what_is_no_call_of_the_contract_is_refused_and_the_tier_answers_on(tier: TierUnderTest) -> None:
    wrong_type = InferInput("max_tokens", [1], "FP32").set_data_from_numpy(np.array([1], np.float32))
    calls = {
        "text_input is missing": inputs(max_tokens=3),
        "text_input is not UTF-8": inputs(text_input=b"ab\xff"),
        "unexpected shape for input 'text_input'": inputs(text_input=["a", "b"]),
        "'max_tokens' data-type is 'FP32'": [*inputs(text_input="x"), wrong_type],
    }
    with InferenceServerClient(tier.server.grpc) as client:
        for sentence, tensors in calls.items():
            assert sentence in tier_client.refusal(client, tier.name, tensors)
    assert tier.generate(text_input=tier.prompt, max_tokens=1)["completion_tokens"] == [1]
