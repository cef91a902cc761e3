import asyncio
import re
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
import pytest
from codecascade.cascade import run_cascade
from codecascade.deployment import Deployment, load_deployment
from codecascade.errors import InvalidRequest, TierUnavailable
from codecascade.sandbox import SandboxPool
from codecascade.texts.examples import prompt_examples
from codecascade.tiers.contract import GenerateRequest, Generation
from codecascade.tiers.live import LiveTiers
from codecascade.trace import StepTrace
from codecascade.triton.calls.tls import Tls
from codecascade.types import GivenStep, Plan, PlanStep, Sample
from codecascade_client.datasets.humaneval import BenchmarkTask
from codecascade_client.datasets.load import Dataset, load_dataset
from codecascade_client.datasets.split import split
from codecascade_client.errors import DatasetError, RecordingError
from codecascade_client.live.endpoints import BACKOFF_S, TierEndpoints
from codecascade_client.recording.judge import Against, judge, sandbox_limits, unjudged
from codecascade_client.recording.record import Recorded, RecordSettings, Refused, manifest_for, plan_units, record
from codecascade_client.recording.recording import GREEDY, JudgedWithin, Unit
from codecascade_client.recording.store import RecordingFolder, Truth, resume_recording
from codecascade_client.replay.cascade import replay

from tests.unit.client.sums_deployment import write_deployment
from tests.unit.client.tier_server import PROMPT_TOKENS, ScriptedTier, serving

UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
SETTINGS = RecordSettings(k=3, lines_asked=2, seed=5)
CALL = GenerateRequest("small", "def f(a, b):\n", ("\n\n",), 20, 0.8, 0.95, 5, 2)


def dataset(tasks: int = 4) -> Dataset:
    benchmarks = {}
    for n in range(tasks):
        name = f"add_{n}"
        test = f"def check(candidate):\n    assert candidate(20, 22) == 42\n    assert candidate({n}, 1) == {n + 1}\n"
        benchmarks[f"t/{n}"] = BenchmarkTask(f"t/{n}", f"def {name}(a, b):\n", name, "", test)
    return Dataset("sums", benchmarks)


@pytest.fixture
def deployment_file(tmp_path: Path) -> Path:
    return write_deployment(tmp_path)


class Waits:
    """Stands in for the clock: notes how long it was asked to wait."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waited.append(seconds)


def new_recording(tmp_path: Path, deployment_file: Path, tasks: Dataset) -> RecordingFolder:
    return resume_recording(tmp_path / "recording", manifest_for(deployment_file, tasks, SETTINGS))


async def test_calls_go_round_the_endpoints() -> None:
    first, second = ScriptedTier(), ScriptedTier()
    async with serving(first), serving(second), TierEndpoints([first.address, second.address]) as endpoints:
        for _ in range(4):
            answer = await endpoints.generate(CALL)
    assert [len(first.asked), len(second.asked)] == [2, 2]
    assert first.asked[0] == {
        "model": "small",
        "text_input": CALL.text_input,
        "stop_words": ("\n\n",),
        "max_tokens": 20,
        "temperature": pytest.approx(0.8),
        "top_p": pytest.approx(0.95),
        "seed": 5,
        "num_return_sequences": 2,
    }
    assert [sample.text for sample in answer.samples] == [f"    # seed 5, sequence {j}\n    return a + b" for j in range(2)]
    assert [sample.completion_tokens for sample in answer.samples] == [9, 9]
    assert answer.prompt_tokens == PROMPT_TOKENS


class Hanging(ScriptedTier):
    """Takes calls and never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.was_asked = asyncio.Event()

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        self.was_asked.set()
        await asyncio.Event().wait()


async def test_an_endpoint_that_dies_is_left_for_the_other() -> None:
    dying, healthy, waits = ScriptedTier(), ScriptedTier(), Waits()
    async with serving(healthy), serving(dying) as server:
        endpoints = TierEndpoints([dying.address, healthy.address], waits)
        async with endpoints:
            await endpoints.generate(CALL)
            await server.stop(0)
            for _ in range(4):
                await endpoints.generate(CALL)
    assert [len(dying.asked), len(healthy.asked)] == [1, 4]
    assert set(waits.waited) == {0.0}, "nobody waits while one endpoint answers"


async def test_a_call_whose_endpoint_dies_halfway_goes_to_the_other() -> None:
    dying, healthy, waits = Hanging(), ScriptedTier(), Waits()
    async with serving(healthy), serving(dying) as server, TierEndpoints([dying.address, healthy.address], waits) as endpoints:
        call = asyncio.ensure_future(endpoints.generate(CALL))
        await dying.was_asked.wait()
        await server.stop(0)
        assert len((await call).samples) == 2
    assert [len(healthy.asked), waits.waited] == [1, [0.0]]


async def test_an_endpoint_that_comes_back_is_asked_again() -> None:
    tier = ScriptedTier()
    async with serving(tier):
        pass
    started = AsyncExitStack()

    async def wait(seconds: float) -> None:
        if seconds == BACKOFF_S[0]:  # the call has found nobody
            await started.enter_async_context(serving(tier, tier.address))
        await asyncio.sleep(min(seconds, 0.2))

    async with started, TierEndpoints([tier.address], wait) as endpoints:
        await endpoints.generate(CALL)
    assert len(tier.asked) == 1


async def test_each_endpoint_is_known_by_its_own_name_over_tls() -> None:
    folder = Path(__file__).parent / "tls"
    pair = ((folder / "key.pem").read_bytes(), (folder / "certificate.pem").read_bytes())
    credentials = grpc.ssl_server_credentials([pair])
    by_name, by_address, waits = ScriptedTier(), ScriptedTier(), Waits()
    async with serving(by_name, credentials=credentials), serving(by_address, credentials=credentials):
        urls = [by_name.address.replace("127.0.0.1", "localhost"), by_address.address]
        async with TierEndpoints(urls, waits, Tls(folder / "certificate.pem")) as endpoints:
            for _ in range(2):
                await endpoints.generate(CALL)
    assert [len(by_name.asked), len(by_address.asked), waits.waited] == [1, 1, [0.0, 0.0]]


async def test_unavailable_is_tried_again_and_later_each_time() -> None:
    waits = Waits()
    tier = ScriptedTier(refusals=[UNAVAILABLE] * 3)
    async with serving(tier), TierEndpoints([tier.address], waits) as endpoints:
        await endpoints.generate(CALL)
    assert waits.waited == [0.0, *BACKOFF_S[:3]]


@pytest.mark.parametrize("max_lines", [None, 1])
async def test_a_text_has_as_many_lines_as_were_asked_for_and_says_what_each_cost(max_lines: int | None) -> None:
    tier = ScriptedTier()
    async with serving(tier), TierEndpoints([tier.address]) as endpoints:
        samples = (await endpoints.generate(replace(CALL, max_lines=max_lines))).samples
    assert [sample.line_tokens for sample in samples] == [(5, 9)[:max_lines]] * 2
    assert tier.asked[0].get("max_lines") == max_lines


async def test_lines_that_are_not_those_of_the_texts_are_no_answer() -> None:
    tier = ScriptedTier(line_tokens=[3])
    async with serving(tier), TierEndpoints([tier.address]) as endpoints:
        with pytest.raises(TierUnavailable, match="line_tokens has length 1, must be 4"):
            await endpoints.generate(CALL)


async def test_no_endpoint_at_all_is_said_in_one_sentence() -> None:
    async with TierEndpoints(["127.0.0.1:1", "127.0.0.1:2"], Waits()) as endpoints:
        with pytest.raises(TierUnavailable, match=r"small cannot be asked at 127\.0\.0\.1:1, 127\.0\.0\.1:2: failed to connect"):
            await endpoints.generate(CALL)
    with pytest.raises(InvalidRequest, match="no endpoint is given"):
        TierEndpoints([])


@pytest.mark.parametrize(
    ("code", "kind"), [(grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest), (grpc.StatusCode.INTERNAL, TierUnavailable)]
)
async def test_any_other_failure_is_not_tried_again(code: grpc.StatusCode, kind: type[Exception]) -> None:
    tier = ScriptedTier(refusals=[(code, "the prompt has 9 tokens\nTraceback …")])
    async with serving(tier), TierEndpoints([tier.address], Waits()) as endpoints:
        with pytest.raises(kind, match=r"^tier small: the prompt has 9 tokens$"):
            await endpoints.generate(CALL)
    assert len(tier.asked) == 1


async def record_all(
    folder: RecordingFolder, deployment: Deployment, tasks: Dataset, address: str, units: list[Unit]
) -> list[Recorded | Refused]:
    outcomes: list[Recorded | Refused] = []
    async with TierEndpoints([address], Waits()) as endpoints:
        with folder.writing():
            await record(folder, deployment, tasks, units, SETTINGS, endpoints.generate, concurrency=3, on_unit=outcomes.append)
    return outcomes


async def test_a_recording_holds_what_a_live_cascade_would_have_been_told(tmp_path: Path, deployment_file: Path) -> None:
    tasks, deployment = dataset(), load_deployment(deployment_file)
    folder = new_recording(tmp_path, deployment_file, tasks)
    units = plan_units(tasks, ["small", "large"], runs=2, split_seed=0, limit=None)
    tier = ScriptedTier()
    async with serving(tier), TierEndpoints([tier.address]) as endpoints:
        await record_all(folder, deployment, tasks, tier.address, units)
        live = await LiveTiers(deployment, endpoints.generate, seed=SETTINGS.seed + 1).sample(
            tasks.task("t/2"), PlanStep("small", 3, 2)
        )
    draws = folder.draws()
    assert set(draws) == set(units)
    draw = draws[Unit("small", "t/2", 1)]
    assert all(sample.text in candidate.source for sample, candidate in zip(draw.solutions, live.candidates, strict=True))
    assert [sample.temperature for sample in draw.solutions] == [0.8] * 3
    assert draw.solutions[0].seed == SETTINGS.seed + 1
    assert [(sample.asked_lines, sample.finish_reason) for sample in draw.tests[2]] == [(2, "stop")] * 3
    greedy = draws[Unit("small", "t/2", GREEDY)]
    assert (len(greedy.solutions), len(greedy.tests[2]), greedy.solutions[0].temperature) == (1, 1, 0.0)


@pytest.mark.parametrize(
    ("lines", "threshold", "answered_by"), [(2, 15 / 18, "small"), (2, 0.9, "large"), (1, 2 / 3, "small"), (1, 0.7, "large")]
)
async def test_recorded_judged_and_replayed_it_answers_as_it_does_live(
    tmp_path: Path, deployment_file: Path, lines: int, threshold: float, answered_by: str
) -> None:
    """Also a plan that keeps fewer lines than were recorded."""
    tasks, deployment = dataset(), load_deployment(deployment_file)
    folder = new_recording(tmp_path, deployment_file, tasks)
    plan = Plan("p", (PlanStep("small", 3, lines, threshold), PlanStep("large", 0)))
    tier = ScriptedTier()
    async with SandboxPool(workers=1) as pool, serving(tier), TierEndpoints([tier.address]) as endpoints:
        units = plan_units(tasks, ["small", "large"], runs=1, split_seed=0, limit=None)
        await record_all(folder, deployment, tasks, tier.address, units)
        await judge(folder, tasks, unjudged(folder, tasks), pool, lambda units: None)
        live_tiers = LiveTiers(deployment, endpoints.generate, seed=SETTINGS.seed)
        live = await run_cascade(tasks.task("t/1"), plan, live_tiers, pool, deployment.prices)
    assert unjudged(folder, tasks) == {}
    replayed = await replay(plan, folder.load(), "t/1", 0)
    assert replayed.correct
    assert replayed.answer.trace.answered_by == live.trace.answered_by == answered_by
    assert [timeless(step) for step in replayed.answer.trace.steps] == [timeless(step) for step in live.trace.steps]


def documented(tasks: int) -> Dataset:
    """Tasks whose prompts give an example, except the first."""
    benchmarks = {}
    for n, (task_id, task) in enumerate(dataset(tasks).tasks.items()):
        example = f'    """The sum.\n\n    >>> {task.entry_point}(1, 2)\n    3\n    """\n' if n else ""
        benchmarks[task_id] = replace(task, prompt=task.prompt + example)
    return Dataset("documented", benchmarks)


class RightAtLast(ScriptedTier):
    """Wrong greedily and at first; the small tier always."""

    def text(self, inputs: dict[str, Any], sequence: int) -> str:
        number = inputs.get("first_sequence", 0) + sequence
        right = inputs["temperature"] > 0 and number > 0 and "small" not in self.asked[-1]["model"]
        return super().text(inputs, number).replace("a + b", "a + b" if right else "a - b")


async def test_draws_held_against_given_tests_are_replayed_as_they_run_live(tmp_path: Path, deployment_file: Path) -> None:
    tasks, deployment = documented(4), load_deployment(deployment_file)
    folder = new_recording(tmp_path, deployment_file, tasks)
    plan = Plan("p", (PlanStep("small", 0),), (GivenStep("small", 2), GivenStep("large", 4)))
    tier = RightAtLast()
    async with SandboxPool(workers=1) as pool, serving(tier), TierEndpoints([tier.address]) as endpoints:
        units = plan_units(tasks, ["small", "large"], runs=1, split_seed=0, limit=None)
        await record_all(folder, deployment, tasks, tier.address, units)
        await judge(folder, tasks, unjudged(folder, tasks), pool, lambda units: None)
        task = tasks.task("t/1")
        live = await run_cascade(
            replace(task, given_tests=prompt_examples(task)),
            plan,
            LiveTiers(deployment, endpoints.generate, seed=SETTINGS.seed),
            pool,
            deployment.prices,
        )
    replayed = await replay(plan, folder.load(), "t/1", 0)
    assert replayed.correct
    assert [(step.tier, step.solutions, step.decision) for step in live.trace.steps] == [
        ("small", 2, "escalate"),
        ("large", 3, "accept"),
    ]
    assert [timeless(step) for step in replayed.answer.trace.steps] == [timeless(step) for step in live.trace.steps]
    assert (await replay(plan, folder.load(), "t/0", 0)).answer.tier == "small", "its prompt gives no example"


async def test_an_older_recording_is_judged_against_given_tests_alone(tmp_path: Path, deployment_file: Path) -> None:
    tasks, deployment = documented(4), load_deployment(deployment_file)
    folder = new_recording(tmp_path, deployment_file, tasks)
    tier = ScriptedTier()
    async with serving(tier):
        await record_all(folder, deployment, tasks, tier.address, [Unit("small", "t/0", 0), Unit("small", "t/1", 0)])
    async with SandboxPool(workers=1) as pool:
        await judge(folder, tasks, unjudged(folder, tasks), pool, lambda units: None)
        (part,) = folder.path.glob("given-*.parquet")
        part.unlink()
        left = unjudged(folder, tasks)
        assert [todo.against for todo in left.values()] == [{Against.GIVEN_TESTS}] * 2
        await judge(folder, tasks, left, pool, lambda units: None)
    assert unjudged(folder, tasks) == {}
    without, given = folder.given()[Unit("small", "t/0", 0)], folder.given()[Unit("small", "t/1", 0)]
    assert (without.lines, without.matrix.verdicts.shape) == ((), (3, 0))
    assert given.lines == ("assert add_1(1, 2) == 3",)
    assert given.matrix.verdicts.tolist() == [[0], [0], [0]]


class SaysTheSame(ScriptedTier):
    def text(self, inputs: dict[str, Any], sequence: int) -> str:
        return super().text(inputs, 0)


async def test_an_answer_that_is_drawn_again_runs_again(tmp_path: Path, deployment_file: Path) -> None:
    tasks, deployment = documented(4), load_deployment(deployment_file)
    folder, unit = new_recording(tmp_path, deployment_file, tasks), Unit("small", "t/1", 0)
    async with serving(tier := SaysTheSame()):
        await record_all(folder, deployment, tasks, tier.address, [unit])
    async with SandboxPool(workers=1) as pool:
        await judge(folder, tasks, unjudged(folder, tasks), pool, lambda units: None)
    first, *others = folder.given()[unit].matrix.cpu_s.tolist()
    assert first > 0
    assert others == [first, first]


async def test_equal_answers_to_a_task_run_once_where_they_meet_the_same_tests(tmp_path: Path, deployment_file: Path) -> None:
    tasks, deployment = documented(4), load_deployment(deployment_file)
    folder, units = new_recording(tmp_path, deployment_file, tasks), [Unit("small", "t/1", 0), Unit("large", "t/1", 0)]
    async with serving(tier := SaysTheSame()):
        await record_all(folder, deployment, tasks, tier.address, units)
    async with SandboxPool(workers=1) as pool:
        await judge(folder, tasks, unjudged(folder, tasks), pool, lambda units: None)
        assert pool.stats.runs == 4, "each unit's own tests, the example, and the benchmark's tests"
    assert unjudged(folder, tasks) == {}
    small, large = (folder.given()[unit].matrix for unit in units)
    assert (small.verdicts.tolist(), small.cpu_s.tolist()) == (large.verdicts.tolist(), large.cpu_s.tolist())
    assert [folder.truth()[unit].verdicts.tolist() for unit in units] == [[0, 0, 0]] * 2


async def test_verdicts_are_redone_within_other_limits(tmp_path: Path, deployment_file: Path) -> None:
    tasks, deployment = dataset(2), load_deployment(deployment_file)
    folder, within = new_recording(tmp_path, deployment_file, tasks), JudgedWithin(0.5, 2.0, 3.0)
    async with serving(tier := ScriptedTier()):
        await record_all(folder, deployment, tasks, tier.address, [Unit("small", "t/0", 0), Unit("small", "t/1", 0)])
    async with SandboxPool(workers=1, limits=sandbox_limits(within)) as pool:
        await judge(folder, tasks, unjudged(folder, tasks), pool, lambda units: None)
        left = unjudged(folder, tasks, within)
        assert [todo.against for todo in left.values()] == [frozenset(Against)] * 2
        await judge(folder, tasks, left, pool, lambda units: None, within)
    assert unjudged(folder, tasks, within) == {}
    assert folder.judged_within() == {within}
    assert len(unjudged(folder, tasks)) == 2


async def test_a_cut_answer_is_not_accepted_live_nor_in_replay(tmp_path: Path, deployment_file: Path) -> None:
    tasks, deployment = dataset(), load_deployment(deployment_file)
    folder = new_recording(tmp_path, deployment_file, tasks)
    plan = Plan("p", (PlanStep("small", 1, 2, 0.0), PlanStep("large", 0)))
    tier = ScriptedTier(finish_reason="length")
    async with SandboxPool(workers=1) as pool, serving(tier), TierEndpoints([tier.address]) as endpoints:
        units = plan_units(tasks, ["small", "large"], runs=0, split_seed=0, limit=None)
        await record_all(folder, deployment, tasks, tier.address, units)
        await judge(folder, tasks, unjudged(folder, tasks), pool, lambda units: None)
        live_tiers = LiveTiers(deployment, endpoints.generate, seed=SETTINGS.seed)
        live = await run_cascade(tasks.task("t/1"), plan, live_tiers, pool, deployment.prices)
    assert [truth.cut for truth in folder.truth().values()] == [(True,)] * len(units)
    replayed = await replay(plan, folder.load(), "t/1", GREEDY)
    assert replayed.answer.trace.answered_by == live.trace.answered_by == "large"
    assert [timeless(step) for step in replayed.answer.trace.steps] == [timeless(step) for step in live.trace.steps]
    assert replayed.answer.trace.note == live.trace.note


class SaysNothing(ScriptedTier):
    """The second line of its tests passes for every function."""

    def text(self, inputs: dict[str, Any], sequence: int) -> str:
        return re.sub(r"(\(2, 2\)) == 4$", r"\1 != None", super().text(inputs, sequence))


async def test_lines_that_cannot_fail_are_no_evidence_in_a_recording_either(tmp_path: Path, deployment_file: Path) -> None:
    tasks, deployment = dataset(), load_deployment(deployment_file)
    folder = new_recording(tmp_path, deployment_file, tasks)
    plan = Plan("p", (PlanStep("small", 3, 2, 0.9), PlanStep("large", 0)))
    tier = SaysNothing()
    async with SandboxPool(workers=1) as pool, serving(tier), TierEndpoints([tier.address]) as endpoints:
        units = plan_units(tasks, ["small", "large"], runs=1, split_seed=0, limit=None)
        await record_all(folder, deployment, tasks, tier.address, units)
        await judge(folder, tasks, unjudged(folder, tasks), pool, lambda units: None)
        live_tiers = LiveTiers(deployment, endpoints.generate, seed=SETTINGS.seed)
        live = await run_cascade(tasks.task("t/1"), plan, live_tiers, pool, deployment.prices)
    assert unjudged(folder, tasks) == {}
    assert folder.judged()[Unit("small", "t/1", 0), 2].line_numbers == (1, 1, 1)
    replayed = await replay(plan, folder.load(), "t/1", 0)
    assert [step.n_test_lines for step in live.trace.steps] == [3, 0]
    assert [timeless(step) for step in replayed.answer.trace.steps] == [timeless(step) for step in live.trace.steps]


def timeless(step: StepTrace) -> StepTrace:
    return replace(step, sandbox_s=0, generate_ms=0, sandbox_ms=0, wall_ms=0)


async def test_verdicts_are_redone_where_extraction_changed(tmp_path: Path, deployment_file: Path) -> None:
    tasks, deployment = dataset(2), load_deployment(deployment_file)
    folder = new_recording(tmp_path, deployment_file, tasks)
    tier = ScriptedTier()
    async with serving(tier):
        await record_all(folder, deployment, tasks, tier.address, [Unit("small", "t/0", 0), Unit("small", "t/1", 0)])
    async with SandboxPool(workers=1) as pool:
        await judge(folder, tasks, unjudged(folder, tasks), pool, lambda units: None)
        folder.add_truth({Unit("small", "t/1", 0): Truth(np.ones(3, np.int8), "of other programs", None)})
        assert list(unjudged(folder, tasks)) == [Unit("small", "t/1", 0)]
        await judge(folder, tasks, unjudged(folder, tasks), pool, lambda units: None)
    assert unjudged(folder, tasks) == {}
    assert folder.truth()[Unit("small", "t/1", 0)].verdicts.tolist() == [0, 0, 0]


async def test_a_recording_resumes_after_an_interruption(tmp_path: Path, deployment_file: Path) -> None:
    tasks, deployment = dataset(), load_deployment(deployment_file)
    folder = new_recording(tmp_path, deployment_file, tasks)
    units = plan_units(tasks, ["small"], runs=1, split_seed=0, limit=None)
    broken = ScriptedTier()
    async with serving(broken) as server:
        outcomes: list[Any] = []

        def stop_after_three(unit: Recorded | Refused) -> None:
            outcomes.append(unit)
            if len(outcomes) == 3:
                asyncio.ensure_future(server.stop(0))  # noqa: RUF006

        with pytest.raises(TierUnavailable), folder.writing():
            async with TierEndpoints([broken.address], Waits()) as endpoints:
                await record(
                    folder, deployment, tasks, units, SETTINGS, endpoints.generate, concurrency=1, on_unit=stop_after_three
                )
    kept = folder.recorded_units()
    assert {unit.unit for unit in outcomes} == kept
    healthy = ScriptedTier()
    async with serving(healthy):
        await record_all(folder, deployment, tasks, healthy.address, [unit for unit in units if unit not in kept])
    assert folder.recorded_units() == set(units)
    assert len(healthy.asked) == 2 * (len(units) - len(kept)), "nothing is asked twice"


async def test_a_refused_unit_is_reported_and_the_rest_goes_on(tmp_path: Path, deployment_file: Path) -> None:
    tasks, deployment = dataset(), load_deployment(deployment_file)
    folder = new_recording(tmp_path, deployment_file, tasks)
    units = plan_units(tasks, ["small"], runs=0, split_seed=0, limit=None)

    async def generate(request: GenerateRequest) -> Generation:
        raise InvalidRequest("the prompt has 9000 tokens")

    outcomes: list[Recorded | Refused] = []
    await record(folder, deployment, tasks, units, SETTINGS, generate, concurrency=2, on_unit=outcomes.append)
    assert {(unit.unit, getattr(unit, "reason", None)) for unit in outcomes} == {(u, "the prompt has 9000 tokens") for u in units}
    assert folder.recorded_units() == set()


class GoesOn:
    """Cuts off a helper with a stop word, unless the prompt already holds the function."""

    def __init__(self, tests: Exception | None = None) -> None:
        self._tests = tests

    async def __call__(self, request: GenerateRequest) -> Generation:
        if request.max_lines:
            if self._tests:
                raise self._tests
            return Generation((Sample("add_0(1, 2) == 3", 8, "length"),), prompt_tokens=30)
        if "total" in request.text_input:
            return Generation((Sample(" total(x):\n    return sum(x)", 9, stop_word="\nprint"),), prompt_tokens=50)
        return Generation((Sample("    return total([a, b])\n", 7, line_tokens=(6, 7), stop_word="\ndef "),), prompt_tokens=20)


async def recorded(folder: RecordingFolder, deployment_file: Path, generate: GoesOn) -> list[Recorded | Refused]:
    outcomes: list[Recorded | Refused] = []
    deployment, units = load_deployment(deployment_file), [Unit("small", "t/0", GREEDY)]
    await record(folder, deployment, dataset(1), units, SETTINGS, generate, concurrency=1, on_unit=outcomes.append)
    return outcomes


async def test_a_recording_keeps_what_the_model_went_on_to_write_and_the_stop_word(tmp_path: Path, deployment_file: Path) -> None:
    folder = new_recording(tmp_path, deployment_file, dataset(1))
    assert [outcome.unit for outcome in await recorded(folder, deployment_file, GoesOn())] == [Unit("small", "t/0", GREEDY)]
    draw = folder.draws()[Unit("small", "t/0", GREEDY)]
    (solution,), (test,) = draw.solutions, draw.tests[2]
    assert solution.text == "    return total([a, b])\n\ndef total(x):\n    return sum(x)"
    assert (solution.stop_word, solution.completion_tokens, solution.line_tokens) == ("\nprint", 7 + 9, ())
    assert (solution.prompt_tokens, solution.continued_prompt_tokens) == (20, 50)
    assert (test.stop_word, test.finish_reason, test.prompt_tokens, test.seed != solution.seed) == ("", "length", 30, True)


async def test_a_unit_without_tests_is_not_recorded(tmp_path: Path, deployment_file: Path) -> None:
    folder = new_recording(tmp_path, deployment_file, dataset(1))
    (outcome,) = await recorded(folder, deployment_file, GoesOn(InvalidRequest("too long")))
    assert outcome == Refused(Unit("small", "t/0", GREEDY), "too long")
    with pytest.raises(TierUnavailable, match="gone"):
        await recorded(folder, deployment_file, GoesOn(TierUnavailable("gone")))
    assert folder.draws() == {}


def test_the_validation_tasks_come_first(deployment_file: Path) -> None:
    tasks = dataset(40)
    validation = split(list(tasks.tasks), seed=3).validation
    units = plan_units(tasks, ["small", "large"], runs=1, split_seed=3, limit=20)
    assert [unit.task for unit in units if unit.run == 0 and unit.tier == "large"][: len(validation)] == list(validation)
    assert units[:2] == [Unit("small", validation[0], GREEDY), Unit("small", validation[0], 0)]
    assert len(units) == 2 * 2 * 20


def test_a_recording_of_another_dataset_is_not_judged(tmp_path: Path, deployment_file: Path) -> None:
    folder = new_recording(tmp_path, deployment_file, dataset(4))
    with pytest.raises(RecordingError, match=r"is of another dataset: 'sums' with SHA-256 \w{12}…, not 'sums' with \w{12}…"):
        unjudged(folder, dataset(5))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "holds no task"),
        ("{", "line 1: not a JSON object"),
        ("[1]", "line 1: not a JSON object"),
        ('{"task_id": "a", "prompt": "p", "entry_point": "f"}', "line 1: 'test' is missing"),
        ('{"task_id": "a", "prompt": "", "entry_point": "f", "test": "t"}', "line 1: prompt is ''"),
        ('{"task_id": "a", "prompt": "p", "entry_point": "f", "test": "t"}\n' * 2, "line 2: task 'a' is there twice"),
    ],
)
def test_a_bad_dataset_is_refused_by_line(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "own.jsonl").write_text(content)
    with pytest.raises(DatasetError) as refused:
        load_dataset(str(tmp_path / "own.jsonl"))
    assert sentence in str(refused.value)


def test_a_dataset_that_is_not_there_is_named() -> None:
    with pytest.raises(DatasetError, match=r"dataset 'nowhere\.jsonl' is neither humaneval nor a file"):
        load_dataset("nowhere.jsonl")
