"""The gateway over real HTTP, before a real Triton with scripted tiers: the APIs, their errors and limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from codecascade.supervision.probes import answer_probes
from codecascade.supervision.state import State
from codecascade_build.server.process import RunningServer, free_ports

from tests.server.gateway import Gateway, running_gateway
from tests.server.metrics import begun_calls, eventually, metric
from tests.server.real_server import StartServer
from tests.server.scripted.repository import ScriptedTier, render

pytestmark = pytest.mark.triton

PREFIX = 'def add(a, b):\n    """The sum of a and b."""\n'
SUFFIX = "\n\nprint(add(1, 2))\n"
STALL = f"# small: stall\n{PREFIX}"
TIERS = [ScriptedTier("small", fim="qwen2.5-coder"), ScriptedTier("large", price_per_mtok=3.0, fim="qwen2.5-coder")]
PLANS = {
    "two": {
        "steps": [
            {"tier": "small", "k": 3, "lines_per_sample": 2, "threshold": 1.0},
            {"tier": "large", "k": 3, "lines_per_sample": 2, "threshold": 1.0},
        ],
        "infill": [{"tier": "small", "accept_log_prob": -5.0}, {"tier": "large"}],
    },
    "quick": [{"tier": "small", "k": 0}],
}


@pytest.fixture(scope="module")
def server(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    here = render(tmp_path_factory.mktemp("scripted"), TIERS, PLANS, default="two", real_sandbox=True, stream=True)
    return start_server(here.repositories, here.deployment)


@pytest.fixture(scope="module")
def gateway(server: RunningServer) -> Iterator[Gateway]:
    with running_gateway(server.grpc) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(server: RunningServer) -> Iterator[Gateway]:
    """A gateway with keys, limits and one web origin."""
    with running_gateway(
        server.grpc,
        api_keys="first, second, third",
        requests_per_minute="2",
        max_body_bytes="2000",
        cors_origins="https://editor.example",
    ) as running:
        yield running


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def streamed(text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The events of a stream and the names in its comments."""
    lines = [line for line in text.split("\n") if line]
    comments = [json.loads(line[2:])["event"] for line in lines if line.startswith(": {")]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1] if line.startswith("data: ")], comments


def test_a_completion_goes_between_prompt_and_suffix(gateway: Gateway) -> None:
    answer = gateway.post("/v1/completions", {"prompt": PREFIX, "suffix": SUFFIX})
    body = answer.json
    assert (answer.status, body["object"], body["model"]) == (200, "text_completion", "codecascade")
    (choice,) = body["choices"]
    assert choice["text"] == "    return a + b"
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)


def test_a_suffix_may_be_in_another_language(gateway: Gateway) -> None:
    javascript = '\n// small\n# small writes: "x = 1;"\nfunction f() {\n  '
    sent = {"prompt": javascript, "suffix": "\n}\n", "language": "javascript"}
    assert gateway.post("/v1/completions", sent).json["choices"][0]["text"] == "x = 1;"


def test_usage_cost_and_tier_are_told(gateway: Gateway) -> None:
    answer = gateway.post("/v1/completions", {"prompt": f"# small: wrong\n{PREFIX}", "temperature": 0.2, "user": "u"})
    body, told = answer.json, answer.json["codecascade"]
    assert (told["tier"], told["plan"], told["score"], told["ignored"]) == ("large", "two", 1.0, ["temperature", "user"])
    assert body["usage"]["completion_tokens"] == sum(told["tokens"]["completion_tokens"].values())
    assert set(told["tokens"]["completion_tokens"]) == {"small", "large"}
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    assert (answer.headers["X-Codecascade-Tier"], answer.headers["X-Codecascade-Plan"]) == ("large", "two")
    assert float(answer.headers["X-Codecascade-Cost-Usd"]) == pytest.approx(told["cost_usd"])
    assert told["cost_usd"] > 0


def test_a_completion_always_goes_on_at_the_end_of_its_prompt(gateway: Gateway) -> None:
    """Clients append the text to what they sent, although the cascade by itself fills what is unfinished."""
    unfinished = f"def nothing():\n    pass\n\n\n{PREFIX}"
    (choice,) = gateway.post("/v1/completions", {"prompt": unfinished}).json["choices"]
    assert "return a + b" in choice["text"]


def test_stop_and_echo(gateway: Gateway) -> None:
    (choice,) = gateway.post("/v1/completions", {"prompt": PREFIX, "stop": [" + b", "nothing"], "echo": True}).json["choices"]
    assert choice["text"].startswith(PREFIX)
    assert choice["text"].endswith("return a")


def test_the_seed_and_the_token_limit_reach_the_cascade(gateway: Gateway) -> None:
    texts = [gateway.post("/v1/completions", {"prompt": PREFIX, "seed": seed}).json["choices"][0]["text"] for seed in (1, 1, -2)]
    assert texts[0] == texts[1] != texts[2]
    cut = gateway.post("/v1/completions", {"prompt": PREFIX, "max_tokens": 1, "model": "codecascade/quick"}).json["choices"][0]
    assert cut["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_more_tokens_than_the_tiers_have_are_as_many_as_they_have(gateway: Gateway, stream: bool) -> None:
    """Clients send thousands by default, and max_tokens is at most."""
    answer = gateway.post("/v1/completions", {"prompt": PREFIX, "max_tokens": 4096, "stream": stream})
    assert (answer.status, "return a + b" in answer.text) == (200, True)


def test_mistrals_completions_answer_continue(gateway: Gateway) -> None:
    body = {"model": "codecascade", "prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 1024, "temperature": 0.01, "stop": []}
    (choice,) = gateway.post("/v1/fim/completions", body).json["choices"]
    assert choice["message"]["content"] == "    return a + b"
    (text, _), _ = streamed(gateway.post("/v1/fim/completions", {**body, "stream": True}).text)
    assert text["choices"][0]["delta"]["content"] == choice["message"]["content"]


@pytest.mark.parametrize("where", ["model", "body", "header"])
def test_a_plan_is_named_by_model_body_or_header(gateway: Gateway, where: str) -> None:
    body = {"model": {"model": "codecascade/quick"}, "body": {"plan": "quick"}, "header": {}}[where]
    headers = {"X-Codecascade-Plan": "quick"} if where == "header" else {}
    answer = gateway.post("/v1/completions", {"prompt": PREFIX, "return_trace": True, **body}, headers)
    assert answer.json["codecascade"]["trace"]["plan"] == "quick"


def test_request_controls_reach_the_cascade(gateway: Gateway) -> None:
    traced = {"prompt": PREFIX, "return_trace": True}
    named = gateway.post("/v1/completions", traced, {"X-Request-Id": "editor-7"})
    assert named.json["codecascade"]["trace"]["request_id"] == "editor-7"
    late = gateway.post("/v1/completions", {**traced, "prompt": STALL}, {"X-Codecascade-Deadline-Ms": "200"})
    assert late.error == (504, "deadline exceeded: 200 ms have passed")
    dear = gateway.post("/v1/completions", {**traced, "prompt": f"# small: wrong\n{PREFIX}", "max_cost": 1e-3})
    assert dear.json["codecascade"]["tier"] == "small"
    assert dear.json["choices"][0]["finish_reason"] == "length"
    assert dear.json["codecascade"]["finish_reason"] == "max_cost"
    assert gateway.post("/v1/completions", traced, {"X-Codecascade-Priority": "12"}).status == 400


def test_tests_and_an_entry_point_reach_the_cascade(gateway: Gateway) -> None:
    body = {"prompt": PREFIX, "entry_point": "add", "tests": ["assert add(1, 1) == 2"], "return_trace": True}
    (step,) = gateway.post("/v1/completions", body).json["codecascade"]["trace"]["steps"]
    assert (step["decision"], gateway.post("/v1/completions", {**body, "entry_point": "no"}).status) == ("accept", 400)


def test_a_stream_tells_what_happens_in_comments(gateway: Gateway) -> None:
    answer = gateway.post("/v1/completions", {"prompt": PREFIX, "stream": True, "stream_options": {"include_usage": True}})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    (text, end, usage), comments = streamed(answer.text)
    assert text["choices"][0]["text"].endswith("    return a + b\n")
    assert (text["choices"][0]["finish_reason"], end["choices"][0]["finish_reason"]) == (None, "stop")
    assert (end["codecascade"]["tier"], usage["choices"], usage["usage"]["total_tokens"] > 0) == ("small", [], True)
    assert comments[0] == "started"
    assert "decision" in comments


def test_a_stream_that_cannot_begin_has_its_status(gateway: Gateway) -> None:
    assert gateway.post("/v1/completions", {"prompt": PREFIX, "stream": True, "model": "gpt-4"}).status == 404
    assert gateway.post("/v1/completions", {"prompt": "", "stream": True}).status == 400


def test_a_stream_that_fails_midway_says_so(gateway: Gateway) -> None:
    failing = f"# small: fail\n# large: fail\n{PREFIX}"
    lines = gateway.post("/v1/completions", {"prompt": failing, "stream": True}).text.strip().split("\n\n")
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["message"].startswith("no tier answered: ")


def test_chat_completes_the_last_block_of_the_last_user_message(gateway: Gateway) -> None:
    messages = [
        {"role": "system", "content": "You are an expert coder."},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": [{"type": "text", "text": f"Finish this:\n\n```python\n{PREFIX}```\n"}]},
    ]
    (choice,) = gateway.post("/v1/chat/completions", {"messages": messages, "max_tokens": -1}).json["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"].startswith(f"```python\n{PREFIX}")
    assert choice["message"]["content"].endswith("    return a + b\n```\n")
    (bare,) = gateway.post("/v1/chat/completions", {"messages": [{"role": "user", "content": PREFIX}]}).json["choices"]
    assert bare["message"]["content"].startswith(PREFIX)


# What llama.vscode sends (src/llama-server.ts: createRequestPayload), with its default settings.
LLAMA_VSCODE = {
    "input_prefix": "",
    "input_suffix": SUFFIX,
    "input_extra": [{"text": "x = 1\n", "time": 1, "filename": "x.py"}],
    "prompt": "    ",
    "n_predict": 128,
    "top_k": 40,
    "top_p": 0.99,
    "stream": False,
    "samplers": ["top_k", "top_p", "infill"],
    "cache_prompt": True,
    "n_indent": 4,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 2500,
}


def test_infill_answers_llama_vscode(gateway: Gateway) -> None:
    body = gateway.post("/infill", {**LLAMA_VSCODE, "input_prefix": f'\n# small writes: "return a + b"\n{PREFIX}'}).json
    assert body["content"] == "return a + b"
    assert (body["truncated"], body["timings"]["predicted_n"], body["codecascade"]["tier"]) == (
        False,
        body["tokens_predicted"],
        "small",
    )


def test_infill_has_the_time_that_the_editor_gives(gateway: Gateway) -> None:
    body = {**LLAMA_VSCODE, "input_prefix": f"\n{STALL}", "t_max_prompt_ms": 0, "t_max_predict_ms": 300}
    assert gateway.post("/infill", body).json["content"] == ""


def test_infill_streams(gateway: Gateway) -> None:
    text = gateway.post("/infill", {**LLAMA_VSCODE, "input_prefix": PREFIX, "stream": True}).text
    (said,) = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]
    assert (said["content"].endswith("return a + b"), said["stop"]) == (True, True)


def test_a_request_that_only_fills_the_cache_is_answered_at_once(gateway: Gateway, server: RunningServer) -> None:
    before = metric(server, 'codecascade_requests_total{outcome="answered",plan="two"}')
    sent = {**LLAMA_VSCODE, "input_suffix": "", "prompt": "", "n_predict": 0, "samplers": [], "t_max_predict_ms": 1}
    assert gateway.post("/infill", sent).json["content"] == ""
    assert metric(server, 'codecascade_requests_total{outcome="answered",plan="two"}') == before


def test_tabby_completes_segments(gateway: Gateway) -> None:
    segments = {"prefix": PREFIX, "suffix": SUFFIX, "filepath": "add.py", "git_url": "https://git.example/x"}
    body = gateway.post("/v1/completions", {"language": "python", "segments": segments, "user": "u"}).json
    assert re.fullmatch(r"cmpl-[0-9a-f]{32}", body["id"])
    assert body["choices"][0]["text"] == "    return a + b"
    assert set(gateway.get("/v1/health").json) >= {"model", "device", "arch", "cpu_info", "cpu_count", "cuda_devices", "version"}


def test_there_is_a_model_for_every_plan_and_one_for_the_default(gateway: Gateway) -> None:
    models = gateway.get("/v1/models").json["data"]
    assert [(model["id"], model["codecascade"]["plan"]) for model in models] == [
        ("codecascade", "two"),
        ("codecascade/two", "two"),
        ("codecascade/quick", "quick"),
    ]
    assert gateway.get("/v1/models/codecascade/quick").json["codecascade"]["tiers"] == ["small"]
    assert gateway.get("/v1/models/gpt-4").json["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({}, 400, "prompt must be one text, or a list with one"),
        ({"prompt": ["a", "b"]}, 400, "prompt must be one text, or a list with one"),
        ({"prompt": PREFIX, "n": 2}, 400, "n: input should be 1"),
        ({"prompt": PREFIX, "logprobs": 1}, 400, "logprobs: input should be None"),
        ({"prompt": PREFIX, "model": "gpt-4"}, 404, "plan 'gpt-4' is unknown, allowed are quick, two"),
        ({"prompt": PREFIX, "max_tokens": 0}, 400, "max_tokens: input should be greater than or equal to 1"),
        ({"prompt": "x\ud800"}, 400, "prompt has half a surrogate pair at character 1, must be valid Unicode"),
        ({"prompt": PREFIX, "priority": 10}, 400, "priority: input should be less than or equal to 9"),
        (b"{", 400, "the body is not JSON: Expecting property name enclosed in double quotes at character 1"),
        (
            {"prompt": f"# small: fail\n# large: fail\n{PREFIX}"},
            503,
            "no tier answered: tier small: told to fail; tier large: told to fail",
        ),
    ],
)
def test_errors_have_openais_form(gateway: Gateway, body: Any, status: int, sentence: str) -> None:
    assert gateway.post("/v1/completions", body).error == (status, sentence)


def test_other_paths_and_methods_have_it_too(gateway: Gateway) -> None:
    assert gateway.get("/v1/nothing").error == (404, "Not Found")
    assert gateway.get("/v1/completions").error == (405, "Method Not Allowed")


@pytest.mark.parametrize("stream", [False, True])
def test_a_closed_connection_ends_the_tiers_calls(gateway: Gateway, server: RunningServer, stream: bool) -> None:
    """The tier's call lasts longer than the wait for its end."""
    stopped = 'scripted_stopped_calls{tier="small"}'
    before, begun = metric(server, stopped), begun_calls(server, "small")
    with sent(gateway, {"prompt": STALL, "stream": stream}):
        asyncio.run(eventually(lambda: begun_calls(server, "small") == begun + 2, within_s=4.0))
    asyncio.run(eventually(lambda: metric(server, stopped) == before + 2, within_s=4.0))
    assert re.search(r"codecascade_gateway_cancelled_total [1-9]", gateway.get("/metrics").text)


def test_without_a_key_nothing_but_health_is_told(guarded: Gateway) -> None:
    for answer in (guarded.get("/v1/models"), guarded.get("/metrics"), guarded.post("/infill", {}, key("fourth"))):
        assert answer.error == (401, "the API key is missing or unknown, must be sent as `Authorization: Bearer KEY`")
    assert guarded.get("/v1/models", key("second")).status == 200
    assert guarded.get("/healthz").json == {"status": "ready"}
    assert guarded.get("/livez").json == {"status": "live"}


def test_each_key_has_its_rate(guarded: Gateway) -> None:
    asked = [guarded.post("/v1/completions", {"prompt": PREFIX}, key("first")) for _ in range(3)]
    assert [answer.status for answer in asked] == [200, 200, 429]
    assert asked[-1].json["error"]["code"] == "rate_limit_exceeded"
    assert 0 < int(asked[-1].headers["Retry-After"]) <= 30
    assert guarded.post("/v1/completions", {"prompt": PREFIX}, key("second")).status == 200


def test_a_request_has_a_size(guarded: Gateway) -> None:
    large = {"prompt": "x" * 2000}
    assert guarded.post("/v1/completions", large, key("third")).status == 413
    with contextlib.closing(socket.create_connection(("127.0.0.1", guarded.port))) as connection:
        chunk = json.dumps(large).encode()
        head = b"POST /infill HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer third\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(chunk), chunk))
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_no_page_of_another_origin_may_call_it_unless_allowed(gateway: Gateway, guarded: Gateway) -> None:
    origin = {"Origin": "https://editor.example"}
    assert "Access-Control-Allow-Origin" not in gateway.get("/healthz", origin).headers
    assert guarded.get("/healthz", origin).headers["Access-Control-Allow-Origin"] == "https://editor.example"


def test_an_overloaded_cascade_says_when_to_come_back(start_server: StartServer, tmp_path: Path) -> None:
    here = render(tmp_path, TIERS, PLANS, default="quick")
    document = {**json.loads(here.deployment.read_text()), "max_requests": 1}
    here.deployment.write_text(json.dumps(document))
    server = start_server(here.repositories, here.deployment)
    with running_gateway(server.grpc) as gateway, sent(gateway, {"prompt": STALL}):
        asyncio.run(eventually(lambda: begun_calls(server, "small") == 1, within_s=4.0))
        answer = gateway.post("/v1/completions", {"prompt": PREFIX})
    assert (answer.status, answer.json["error"]["code"]) == (429, "overloaded")
    assert int(answer.headers["Retry-After"]) >= 1


def test_a_gateway_without_a_cascade_says_so() -> None:
    with running_gateway("127.0.0.1:1") as alone:
        assert alone.get("/livez").status == 200
        assert alone.get("/healthz").error == (503, "no server answers at 127.0.0.1:1: is it running?")
        assert alone.post("/v1/completions", {"prompt": PREFIX}).status == 503


def test_its_health_is_what_the_cascades_supervisor_says() -> None:
    state, ports = State(), free_ports()
    answer_probes(state, "127.0.0.1", ports.health)
    with running_gateway("127.0.0.1:1", health_url=f"http://127.0.0.1:{ports.health}/health/ready") as alone:
        assert alone.get("/healthz").json == {"status": "not ready"}
        state.serving(["cascade"])
        assert alone.get("/healthz").json == {"status": "ready"}


def test_its_own_metrics_count_requests_by_route_and_status(gateway: Gateway) -> None:
    gateway.post("/v1/completions", {"prompt": PREFIX})
    page = gateway.get("/metrics").text
    assert re.search(r'codecascade_gateway_requests_total\{route="/v1/completions",status="200"\} [1-9]', page)
    assert 'codecascade_gateway_request_seconds_count{route="/v1/completions"}' in page
    assert "codecascade_gateway_in_flight 0.0" in page


def test_no_input_makes_it_fail(gateway: Gateway, tmp_path: Path) -> None:
    """schemathesis, against the gateway's own description."""
    argv = [str(Path(sys.prefix) / "bin" / "schemathesis"), "run", f"{gateway.url}/openapi.json"]
    argv += ["--checks", "not_a_server_error", "--max-examples", "40", "--seed", "1", "--no-color"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert re.search(r"[1-9]\d* passed", done.stdout), done.stdout[-3000:]
    assert gateway.get("/healthz").status == 200


@contextlib.contextmanager
def sent(gateway: Gateway, body: dict[str, Any]) -> Iterator[None]:
    """Send a completion request, and close its connection at the end without reading the answer."""
    data = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    with contextlib.closing(socket.create_connection(("127.0.0.1", gateway.port))) as connection:
        connection.sendall(head.encode() + data)
        yield
