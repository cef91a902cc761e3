"""Infills through the cascade model on a real Triton, over gRPC: scripted tiers, the real sandbox."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from codecascade_build.server.process import RunningServer
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.server.real_server import StartServer
from tests.server.scripted.repository import ScriptedTier, render

pytestmark = pytest.mark.triton

TIERS = [ScriptedTier("small", fim="qwen2.5-coder"), ScriptedTier("large", fim="qwen2.5-coder")]
INFILL = [{"tier": "small", "accept_log_prob": -0.6}, {"tier": "large"}]  # a scripted word has -0.25
PLANS = {"fast": {"steps": [{"tier": "large", "k": 0}], "infill": INFILL}}
BEFORE, AFTER = "def add(a, b):\r\n    total = ", "\r\n    return total\r\n"


@pytest.fixture(scope="module")
def server(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    repository = render(tmp_path_factory.mktemp("scripted"), TIERS, PLANS, default="fast", real_sandbox=True)
    return start_server(repository.repositories, repository.deployment)


@pytest_asyncio.fixture
async def client(server: RunningServer) -> AsyncIterator[InferenceServerClient]:
    async with InferenceServerClient(server.grpc) as connected:
        yield connected


def told(**writes: str) -> str:
    """A prefix that tells tiers what to write."""
    return "\n" + "".join(f"# {tier} writes: {json.dumps(text)}\n" for tier, text in writes.items()) + BEFORE


async def ask(client: InferenceServerClient, prompt: str, **inputs: Any) -> dict[str, Any]:
    tensors = []
    for name, value in {"prompt": prompt, "return_trace": True, **inputs}.items():
        array = np.array([value.encode()], np.object_) if isinstance(value, str) else np.array([value])
        tensors.append(InferInput(name, [1], np_to_triton_dtype(array.dtype)).set_data_from_numpy(array))
    answer = await client.infer("cascade", tensors)
    texts = {name: answer.as_numpy(name)[0].decode() for name in ("completion", "inserted", "tier", "trace", "finish_reason")}
    return {**texts, "trace": json.loads(texts["trace"])}


async def test_a_likely_infill_of_the_small_tier_stands_between_the_texts(client: InferenceServerClient) -> None:
    prefix = told(small="a+b")
    answer = await ask(client, prefix, suffix=AFTER)
    assert (answer["tier"], answer["inserted"]) == ("small", "a+b")
    assert answer["completion"] == prefix + "a+b" + AFTER
    assert [step["decision"] for step in answer["trace"]["steps"]] == ["accept"]


async def test_an_unlikely_or_unfit_one_goes_to_the_large_tier(client: InferenceServerClient) -> None:
    for text in ("a + b + c", "(a+b"):
        answer = await ask(client, told(small=text, large="a + b"), suffix=AFTER)
        assert (answer["tier"], answer["inserted"]) == ("large", "a + b")


async def test_tests_decide_where_they_come_with_the_request(client: InferenceServerClient) -> None:
    answer = await ask(client, told(small="a-b", large="a + b + 0"), suffix=AFTER, tests="assert add(1, 2) == 3")
    assert (answer["tier"], answer["trace"]["steps"][1]["reason"]) == ("large", "1 of 1 given tests pass")


async def test_one_line_and_another_language_are_asked_for(client: InferenceServerClient) -> None:
    prefix = '// small\n# small writes: "x;\\n  y;"\nfunction f() {\n  '
    for one_line, inserted in ((False, "x;\n  y;"), (True, "x;")):
        answer = await ask(client, prefix, suffix="\n}\n", language="javascript", one_line=one_line)
        assert answer["inserted"] == inserted
        assert answer["trace"]["note"] is None


async def test_either_text_may_be_empty(client: InferenceServerClient) -> None:
    assert (await ask(client, told(small="a+b"), suffix=""))["inserted"] == "a+b"
    assert (await ask(client, "", suffix='\n# small writes: "x=1"\n'))["inserted"] == "x=1"


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"language": "python"}, "language is of infills, which have a suffix"),
        ({"suffix": "x", "cursor": np.int32(0)}, "cursor is not taken with a suffix"),
        ({"suffix": "x" * 300_000}, "suffix has 300000 bytes, must have 262144 or fewer"),
    ],
)
async def test_what_makes_no_infill_is_refused(client: InferenceServerClient, inputs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InferenceServerException, match=sentence):
        await ask(client, told(small="a+b"), **inputs)
