"""What a Python model counts reaches Triton's /metrics, whatever it is given: a real Triton with one small model."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import numpy as np
import pytest
from codecascade_build.server.process import RunningServer
from tritonclient.grpc import InferenceServerClient, InferInput

from tests.server.metrics import eventually, metric, scraped
from tests.server.real_server import StartServer

pytestmark = pytest.mark.triton

CONFIG = """
backend: "python"
max_batch_size: 0
input [ { name: "amount" data_type: TYPE_FP64 dims: [ 1 ] } ]
output [ { name: "amount" data_type: TYPE_FP64 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
COUNTING = """
    import numpy as np
    from codecascade.load_policy import LoadPolicy
    from codecascade.errors import Overloaded
    from codecascade.triton.calls.gate import Gate
    from codecascade.triton.gate_metrics import Before
    from codecascade.triton.metrics import Counters, Gauges, Histograms
    from codecascade.triton.models.base import ServedModel
    from codecascade.triton.tensors import Inputs, numbers


    class TritonPythonModel(ServedModel):
        def start(self, parameters):
            self.latest = 0.0
            self.gate = Gate("tier", 2, max_queue=0)
            self.sums = Counters("try_things_total", "Things", ["kind"])
            self.sizes = Histograms("try_size_bytes", "Sizes", [], [1.0, 10.0])
            self.count([
                Gauges("try_broken", "A gauge that cannot be read", [], lambda: {}[()]),
                Gauges("try_mislabelled", "A gauge with a value for no label", [], lambda: {("x",): 1.0}),
                Gauges("try_latest", "The latest amount", ["kind"], self.read),
                self.sums,
                self.sizes,
                *Before("counting", {"tier": self.gate}, LoadPolicy([])).families,
            ])

        def read(self):
            return {("one",): self.latest} if self.latest else {}

        def enter(self):
            # as long as there is room, and then once more
            try:
                self.gate.enter_now()
            except Overloaded:
                self.gate.trip("it hangs")

        async def answer(self, request):
            amount = float(Inputs(request).array("amount")[0])
            self.latest = amount if np.isfinite(amount) else 0.0
            self.enter()
            self.sums.add(amount, "one")
            self.sums.add(1, 'quoted "kind"')
            self.sizes.observe(amount)
            return [numbers("amount", [amount], np.float64)]
"""


@pytest.fixture(scope="module")
def server(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    repository = tmp_path_factory.mktemp("counting")
    (repository / "counting" / "1").mkdir(parents=True)
    (repository / "counting" / "config.pbtxt").write_text(CONFIG)
    (repository / "counting" / "1" / "model.py").write_text(textwrap.dedent(COUNTING))
    return start_server([repository])


@pytest.fixture
def client(server: RunningServer) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.grpc) as client:
        yield client


def count(client: InferenceServerClient, amount: float) -> None:
    tensor = InferInput("amount", [1], "FP64")
    tensor.set_data_from_numpy(np.array([amount]))
    client.infer("counting", [tensor])


async def test_counters_histograms_and_gauges_arrive_as_such(client: InferenceServerClient, server: RunningServer) -> None:
    before = metric(server, 'try_things_total{kind="one"}'), metric(server, 'try_size_bytes_bucket{le="1"}')
    count(client, 0.5)
    count(client, 4.0)
    await eventually(lambda: metric(server, 'try_things_total{kind="one"}') == before[0] + 4.5, within_s=5.0)
    await eventually(lambda: metric(server, 'try_size_bytes_bucket{le="1"}') == before[1] + 1, within_s=5.0)
    await eventually(lambda: metric(server, 'try_latest{kind="one"}') == 4.0, within_s=5.0)
    text = scraped(server)
    for kind in ("try_things_total counter", "try_size_bytes histogram", "try_latest gauge"):
        assert f"# TYPE {kind}\n" in text
    assert 'try_things_total{kind="quoted \\"kind\\""}' in text


@pytest.mark.parametrize("wrong", [-5.0, float("nan"), float("inf")])
async def test_an_amount_that_no_sum_can_take_is_left_out_and_the_next_one_counts(
    client: InferenceServerClient, server: RunningServer, wrong: float
) -> None:
    sums, sizes = 'try_things_total{kind="one"}', "try_size_bytes_count"
    count(client, 1.0)
    await eventually(lambda: metric(server, sums) > 0, within_s=5.0)
    await eventually(lambda: metric(server, 'try_latest{kind="one"}') == 1.0, within_s=5.0)
    before = metric(server, sums), metric(server, sizes)
    count(client, wrong)
    count(client, 2.0)
    await eventually(lambda: (metric(server, sums), metric(server, sizes)) == (before[0] + 2, before[1] + 1), within_s=5.0)


async def test_what_cannot_be_counted_or_read_is_logged_once(client: InferenceServerClient, server: RunningServer) -> None:
    for _ in range(2):
        count(client, -1.0)
    told = [
        "metric try_things_total was given -",
        "must be a finite number of 0 or more; it is left out (told once)",
        "metric try_broken cannot be read: KeyError(())",
        "metric try_mislabelled could not be handed to Triton: ValueError",
    ]
    await eventually(lambda: [server.log_text().count(words) for words in told] == [1, 2, 1, 1], within_s=5.0)


async def test_what_stands_before_a_model_is_told(client: InferenceServerClient, server: RunningServer) -> None:
    for _ in range(3):
        count(client, 1.0)
    figures = ("calls_in_flight", "calls_queued", "breaker_open", "breaker_opened_total")

    def told() -> list[float]:
        return [metric(server, f'codecascade_{figure}{{caller="counting",model="tier"}}') for figure in figures]

    await eventually(lambda: told() == [2, 0, 1, 1], within_s=5.0, otherwise=told)
    assert metric(server, 'codecascade_calls_refused_total{caller="counting",model="tier"}') >= 1


async def test_a_gauge_falls_to_zero_when_its_value_is_gone(client: InferenceServerClient, server: RunningServer) -> None:
    count(client, 7.0)
    await eventually(lambda: metric(server, 'try_latest{kind="one"}') == 7.0, within_s=5.0)
    count(client, 0.0)
    await eventually(lambda: metric(server, 'try_latest{kind="one"}') == 0.0, within_s=5.0)
