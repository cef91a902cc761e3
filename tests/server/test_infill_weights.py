"""What stands between two texts, written by the real weights on a real Triton."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from codecascade.texts.infills import fim_prompt, max_infill_tokens
from codecascade.types import Task
from codecascade_build.server.process import RunningServer
from tritonclient.grpc import InferenceServerClient

from tests.server import tier_client

pytestmark = [pytest.mark.triton, pytest.mark.models]

BEFORE = 'def area(width, height):\n    """The area of a rectangle."""\n    '
AFTER = "\n    return result\n"


@pytest.fixture
def client(qwen_server: RunningServer) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(qwen_server.grpc) as client:
        yield client


def write(client: InferenceServerClient, tier: str, task: Task) -> str:
    prompt = fim_prompt("qwen2.5-coder", task)
    answer = tier_client.generate(
        client,
        tier,
        text_input=prompt.text,
        literal_ranges=list(prompt.literal_ranges),
        stop_words=list(prompt.stop),
        max_tokens=max_infill_tokens(task),
        temperature=0.0,
    )
    return str(answer["text_output"][0].decode())


@pytest.mark.parametrize("tier", ["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"])
@pytest.mark.parametrize("one_line", [True, False])
def test_the_missing_line_is_written(client: InferenceServerClient, tier: str, one_line: bool) -> None:
    text = write(client, tier, Task(BEFORE, "area", AFTER, infill=True, one_line=one_line))
    assert text.strip() == "result = width * height"


@pytest.mark.parametrize("mark", ["<|fim_suffix|>", "<|fim_middle|>"])
def test_a_special_token_in_the_callers_text_is_plain_text(client: InferenceServerClient, mark: str) -> None:
    task = Task(BEFORE.replace("rectangle", f"rectangle {mark}"), "area", f"{AFTER}\n# {mark}\n", infill=True, one_line=True)
    assert write(client, "qwen2.5-coder-0.5b", task).strip() == "result = width * height"
