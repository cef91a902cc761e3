"""What `Serving` gives every Python model, on a real Triton: the models `nap` and `doze`, and `caller`, which calls them."""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from codecascade.triton.calls.threads import VARIABLE
from codecascade_build.server.process import RunningServer
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from tests.server.real_server import StartServer

pytestmark = pytest.mark.triton

CONFIG = """
backend: "python"
max_batch_size: 0
input [ { name: "ms" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "counts" data_type: TYPE_INT32 dims: [ 3 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
# A negative `ms` asks for an error. counts: naps begun, naps cancelled, clean-ups finished.
NAP = """
    import asyncio
    import threading
    import time
    import numpy as np
    from codecascade.triton.arrival import ARRIVED_S
    from codecascade.triton.serving import Serving
    from codecascade.triton.tensors import Inputs, numbers
    from codecascade.errors import SandboxUnavailable, TierUnavailable


    class TritonPythonModel:
        def initialize(self, args):
            self.begun = self.cancelled = self.cleaned = self.received = self.free_s = 0
            self.second = threading.Event()
            self.serving = Serving(self.answer, nested=args["model_name"] != "caller")

        def execute(self, requests):
            self.serving.submit(requests)
            self.received += len(requests)
            if self.received == 2:
                self.second.set()

        async def answer(self, request):
            ms = Inputs(request).integer("ms", -9, 10**6, default=0)
            if ms == -1:
                raise TierUnavailable("the tier is away")
            if ms == -2:
                raise SandboxUnavailable("the sandbox is away")
            if ms == -3:
                raise KeyError("a secret of the server")
            if ms == -4:
                return ["no tensor"]
            if ms == -5 and not self.free_s:  # the loop does nothing else until another request has come
                self.second.wait(30)
                self.free_s = time.monotonic()
            if ms == -5:
                return [numbers("counts", [ARRIVED_S.get() < self.free_s, 0, 0], np.int32)]
            if ms:
                self.begun += 1
                await self.nap(ms)
            return [numbers("counts", [self.begun, self.cancelled, self.cleaned], np.int32)]

        async def nap(self, ms):
            try:
                await asyncio.sleep(ms / 1e3)
            except asyncio.CancelledError:
                self.cancelled += 1
                await asyncio.sleep(0.3)  # longer than the interval at which callers are checked
                self.cleaned += 1
                raise
"""
CALLER = """
    import numpy as np
    from codecascade.triton.calls.bls import BlsModel
    from codecascade.triton.serving import Serving
    from codecascade.triton.tensors import Inputs, numbers


    class TritonPythonModel:
        def initialize(self, args):
            threads = {"nap": 1100, "doze": 100}
            pulse = {"ms": np.array([-10], np.int32)}
            self.models = {name: BlsModel(name, ["counts"], 3600.0, pulse, size) for name, size in threads.items()}
            self.serving = Serving(self.answer)

        def execute(self, requests):
            self.serving.submit(requests)

        async def answer(self, request):
            ms = Inputs(request).integer("ms", -1, 10**6, default=0)
            outputs = await self.models["doze" if ms < 0 else "nap"]({"ms": np.array([max(ms, 0)], np.int32)})
            return [numbers("counts", outputs["counts"], np.int32)]
"""
LONG_MS = 600_000  # ten minutes: nobody waits for its end


@pytest.fixture(scope="module")
def server(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    repository = tmp_path_factory.mktemp("serving")
    for name, source in {"nap": NAP, "doze": NAP, "blocks": NAP, "caller": CALLER}.items():
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(CONFIG)
        (repository / name / "1" / "model.py").write_text(textwrap.dedent(source))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "1280")
        return start_server([repository])


@pytest.fixture
def client(server: RunningServer) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.grpc) as client:
        yield client


def inputs(ms: int) -> list[InferInput]:
    tensor = InferInput("ms", [1], "INT32")
    tensor.set_data_from_numpy(np.array([ms], np.int32))
    return [tensor]


def ask(client: InferenceServerClient, ms: int, model: str = "nap", **options: Any) -> list[int]:
    """Naps begun, cancelled, cleaned up."""
    counts: list[int] = client.infer(model, inputs(ms), **options).as_numpy("counts").tolist()
    return counts


def error_of(client: InferenceServerClient, ms: int) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as raised:
        ask(client, ms)
    return str(raised.value.status()), str(raised.value.message())


def wait_for(client: InferenceServerClient, which: int, count: int) -> None:
    """Ask until `count` is reached; the test's time limit ends it."""
    while ask(client, 0)[which] < count:
        pass


def test_many_requests_are_answered_at_the_same_time(client: InferenceServerClient) -> None:
    begun = ask(client, 0)[0]
    with ThreadPoolExecutor(64) as pool:
        seen = list(pool.map(lambda _: ask(client, 1000)[0], range(64)))
    assert seen == [begun + 64] * 64  # when the first of them ended, the last had begun


def test_many_nested_calls_are_under_way_at_the_same_time(client: InferenceServerClient) -> None:
    begun = ask(client, 0)[0]
    with ThreadPoolExecutor(100) as pool:
        seen = list(pool.map(lambda _: ask(client, 1500, "caller")[0], range(100)))
    assert seen == [begun + 100] * 100


@pytest.mark.parametrize(
    ("ms", "status", "message"),
    [
        (-10, "INVALID_ARGUMENT", "invalid request: ms is -10, must be -9 to 1000000"),
        (-1, "UNAVAILABLE", "the tier is away"),
        (-2, "UNAVAILABLE", "the sandbox is away"),
        (-3, "INTERNAL", "internal error (KeyError); the server's log has the details"),
        (-4, "INTERNAL", "internal error (TypeError); the server's log has the details"),
    ],
)
def test_every_mistake_has_its_code_and_one_sentence(client: InferenceServerClient, ms: int, status: str, message: str) -> None:
    assert error_of(client, ms) == (f"StatusCode.{status}", message)


def test_the_traceback_of_an_internal_error_goes_to_the_log(client: InferenceServerClient, server: RunningServer) -> None:
    error_of(client, -3)
    assert "KeyError: 'a secret of the server'" in server.log_text()


def test_a_cancelled_request_is_cancelled_in_the_model_and_may_clean_up(client: InferenceServerClient) -> None:
    begun, cancelled, cleaned = ask(client, 0)
    ended = threading.Event()
    call = client.async_infer("nap", inputs(LONG_MS), lambda result, error: ended.set())
    wait_for(client, 0, begun + 1)
    call.cancel()
    ended.wait()
    wait_for(client, 1, cancelled + 1)
    wait_for(client, 2, cleaned + 1)


def test_a_client_that_gives_up_waiting_is_a_cancel(client: InferenceServerClient) -> None:
    cancelled = ask(client, 0)[1]
    with pytest.raises(InferenceServerException, match="Deadline Exceeded"):
        ask(client, LONG_MS, client_timeout=0.5)
    wait_for(client, 1, cancelled + 1)


def test_a_client_that_hangs_up_is_a_cancel(client: InferenceServerClient, server: RunningServer) -> None:
    begun, cancelled, _ = ask(client, 0)
    other = InferenceServerClient(server.grpc)
    other.async_infer("nap", inputs(LONG_MS), lambda result, error: None)
    wait_for(client, 0, begun + 1)
    other.close()
    wait_for(client, 1, cancelled + 1)


def test_a_cancel_reaches_the_models_that_a_model_has_called(client: InferenceServerClient) -> None:
    begun, cancelled, _ = ask(client, 0)
    call = client.async_infer("caller", inputs(LONG_MS), lambda result, error: None)
    wait_for(client, 0, begun + 1)
    call.cancel()
    wait_for(client, 1, cancelled + 1)


def test_a_call_that_its_give_up_overtook_is_cancelled_when_it_comes(client: InferenceServerClient) -> None:
    cancelled = ask(client, 0)[1]
    with pytest.raises(InferenceServerException, match="given up"):
        ask(client, 0, parameters={"give_up": "other,overtaken"})
    with pytest.raises(InferenceServerException, match="cancelled the request"):
        ask(client, LONG_MS, parameters={"call": "overtaken"})
    ask(client, 1, parameters={"call": "not given up"})
    assert ask(client, 0)[1] == cancelled


def test_only_the_call_that_is_given_up_is_cancelled(client: InferenceServerClient) -> None:
    begun, cancelled, _ = ask(client, 0)
    with ThreadPoolExecutor(1) as pool:
        kept = pool.submit(ask, client, 3000, "caller")
        call = client.async_infer("caller", inputs(LONG_MS), lambda result, error: None)
        wait_for(client, 0, begun + 2)
        call.cancel()
        wait_for(client, 1, cancelled + 1)
        assert kept.result()[1] == cancelled + 1


def hold(client: InferenceServerClient, calls: int) -> list[Any]:
    """Nested calls that are under way in `nap`, each of a request of its own."""
    begun = ask(client, 0)[0]
    requests = [client.async_infer("caller", inputs(LONG_MS), lambda result, error: None) for _ in range(calls)]
    wait_for(client, 0, begun + calls)
    return requests


def test_over_a_thousand_nested_calls_are_under_way_and_every_give_up_gets_through(client: InferenceServerClient) -> None:
    cancelled = ask(client, 0)[1]
    for request in hold(client, 1100):
        request.cancel()
    wait_for(client, 1, cancelled + 1100)
    assert ask(client, 0, "caller")[1] == cancelled + 1100


def test_a_model_that_hangs_with_all_its_calls_does_not_delay_another(client: InferenceServerClient) -> None:
    cancelled = ask(client, 0)[1]
    requests = hold(client, 600)
    for _ in range(100):
        ask(client, -1, "caller")
    assert ask(client, 0)[1] == cancelled
    for request in requests:
        request.cancel()
    wait_for(client, 1, cancelled + 600)


def test_a_request_has_arrived_before_the_loop_is_free_for_it(client: InferenceServerClient) -> None:
    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(ask, client, -5, model="blocks") for _ in range(2)]
        assert [answer.result()[0] for answer in answers] == [1, 1]
