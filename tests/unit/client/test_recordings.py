import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from codecascade.scoring import score_candidates
from codecascade.types import LogProbs, VerdictMatrix
from codecascade_build.paths import ROOT
from codecascade_client.errors import RecordingError
from codecascade_client.recording import parquet as parts
from codecascade_client.recording.recording import (
    GREEDY,
    ORDINARY,
    Draw,
    Judged,
    JudgedGiven,
    JudgedWithin,
    PublishedRecording,
    PublishedStep,
    RecordedSample,
    RecordingManifest,
    SampleRecording,
    StepOption,
    Unit,
    matrix_with,
)
from codecascade_client.recording.store import SAMPLES, TRUTH, Truth, create_recording, open_recording, resume_recording
from hypothesis import given
from hypothesis import strategies as st

UNIT = Unit("small", "t/0", 0)
DATASET = {"name": "tiny", "sha256": "d" * 64, "task_ids": ["t/0", "t/1"]}


def manifest(**changes: object) -> RecordingManifest:
    fields = {
        "family": "tiny",
        "dataset": DATASET,
        "tiers": {"small": {"price_per_mtok": 1.0}},
        "settings": {"k": 2},
        "provenance": {"by": "test"},
    }
    return RecordingManifest(**{**fields, **changes})  # type: ignore[arg-type]


def draw(mark: str = "a") -> Draw:
    return Draw(
        solutions=(
            RecordedSample(f"{mark}1", 10, prompt_tokens=7, stop_word="\ndef ", log_probs=LogProbs(-1.5, -0.75, 10)),
            RecordedSample(f"{mark}2", 20, prompt_tokens=7, continued_prompt_tokens=40),
        ),
        tests={
            2: (
                RecordedSample("x\ny", 5, asked_lines=2, line_tokens=(3, 5), prompt_tokens=4, seed=2**63 + 1),
                RecordedSample("z", 6, asked_lines=2, line_tokens=(6, None), prompt_tokens=4),
            )
        },
    )


def judged() -> Judged:
    verdicts = np.array([[0, 1, 0], [0, 0, 3]], np.int8)
    return Judged(VerdictMatrix(verdicts, np.array([0.3, 0.6])), ("x", "y", "z"), (0, 0, 1), (1, 2, 1), "5" * 64)


def test_what_is_added_is_what_is_loaded(tmp_path: Path) -> None:
    folder = create_recording(tmp_path / "r", manifest())
    with folder.writing():
        folder.add_draws({UNIT: draw()})
        folder.add_judged({(UNIT, 2): judged()})
        folder.add_truth({UNIT: Truth(np.array([0, 1], np.int8), "6" * 64, (False, True))})
        folder.add_given(
            {UNIT: JudgedGiven(VerdictMatrix(np.array([[0], [1]], np.int8), np.array([0.1, 0.2])), ("g",), "7" * 64)}
        )
    again = open_recording(tmp_path / "r")
    assert again == folder
    assert again.recorded_units() == {UNIT}
    assert again.draws() == {UNIT: draw()}
    recording = again.load()
    assert isinstance(recording, SampleRecording)
    judgement = recording.judged[UNIT, 2]
    assert (judgement.lines, judgement.line_samples, judgement.line_numbers) == (("x", "y", "z"), (0, 0, 1), (1, 2, 1))
    assert judgement.sources_sha256 == "5" * 64
    assert judgement.matrix.verdicts.tolist() == [[0, 1, 0], [0, 0, 3]]
    assert judgement.matrix.cpu_s.tolist() == [0.3, 0.6]
    assert recording.correct[UNIT].tolist() == [True, False]
    assert recording.cut[UNIT] == (False, True)
    given = recording.given[UNIT]
    assert (given.lines, given.sources_sha256) == (("g",), "7" * 64)
    assert given.matrix.verdicts.tolist() == [[0], [1]]
    assert given.matrix.cpu_s.tolist() == [0.1, 0.2]


def test_the_limits_of_verdicts_are_kept_and_told_where_they_are_not_a_cascades(tmp_path: Path) -> None:
    folder, within = create_recording(tmp_path / "r", manifest()), JudgedWithin(0.2, 0.6, 1.0)
    folder.add_draws({UNIT: draw()})
    folder.add_judged({(UNIT, 2): judged()})
    folder.add_truth({UNIT: Truth(np.array([0, 1], np.int8), "6" * 64, None)})
    assert folder.load().manifest == folder.manifest
    folder.add_judged({(UNIT, 2): replace(judged(), within=within)})
    with pytest.raises(
        RecordingError, match=r"within different limits \(0\.2 CPU seconds a line.*; 1 CPU seconds a line, 5 a solut"
    ):
        folder.load()
    folder.add_truth({UNIT: Truth(np.array([0, 1], np.int8), "6" * 64, None, within=within)})
    expected = {"line_cpu_s": 0.2, "solution_cpu_s": 0.6, "benchmark_cpu_s": 1.0}
    assert folder.load().manifest.provenance == {**folder.manifest.provenance, "judged_within": expected}


def test_where_it_is_not_known_what_was_cut_finish_reasons_count(tmp_path: Path) -> None:
    first, second = draw().solutions
    units = {UNIT: Draw((replace(first, finish_reason="length"), second), draw().tests)}
    recording = SampleRecording(manifest(), units, {(UNIT, 2): judged()}, {UNIT: np.array([True, False])})
    assert [answer.cut for answer in recording.step(UNIT, StepOption("small", 2, 1)).candidates] == [True, False]
    known = replace(recording, cut={UNIT: (False, False)})
    assert [answer.cut for answer in known.step(UNIT, StepOption("small", 2, 1)).candidates] == [False, False]


@pytest.mark.parametrize("later", [("cut", "broken", "within"), ("broken",)])
def test_an_older_truth_does_not_know_what_was_cut_or_broken(tmp_path: Path, later: Sequence[str]) -> None:
    folder = create_recording(tmp_path / "r", manifest())
    older = pa.schema([field for field in TRUTH if field.name not in later])
    row = {"tier": "small", "task": "t/0", "run": 0, "verdicts": bytes([0]), "sources_sha256": ""}
    parts.append(folder.path, "truth", older, folder.owner, [row])
    assert [(truth.cut, truth.broken, truth.within) for truth in folder.truth().values()] == [(None, None, ORDINARY)]


def test_a_draw_without_any_test_line_comes_back_without_columns(tmp_path: Path) -> None:
    folder = create_recording(tmp_path / "r", manifest())
    folder.add_judged({(UNIT, 2): Judged(VerdictMatrix(np.zeros((2, 0), np.int8), np.zeros(2)), (), (), (), "")})
    assert folder.judged()[UNIT, 2].matrix.verdicts.shape == (2, 0)


LATER_COLUMNS = ["stop_word", "continued_prompt_tokens", "log_probs"]


def test_a_part_from_before_a_column_was_added_is_read_and_merged(tmp_path: Path) -> None:
    folder = create_recording(tmp_path / "r", manifest())
    folder.add_draws({UNIT: draw()})
    (part,) = folder.path.glob("samples-*.parquet")
    table = pq.read_table(part, partitioning=None)
    pq.write_table(table.drop_columns(LATER_COLUMNS), part)
    solutions = tuple(replace(sample, stop_word="", continued_prompt_tokens=0, log_probs=None) for sample in draw().solutions)
    older = replace(draw(), solutions=solutions)
    assert folder.draws() == {UNIT: older}
    newer = Unit("small", "t/1", 0)
    with folder.writing():
        folder.add_draws({newer: draw("b")})
    assert len(list(folder.path.glob("samples-*.parquet"))) == 1
    assert folder.draws() == {UNIT: older, newer: draw("b")}


def test_a_part_without_a_column_that_was_always_there_is_refused(tmp_path: Path) -> None:
    folder = create_recording(tmp_path / "r", manifest())
    folder.add_draws({UNIT: draw()})
    (part,) = folder.path.glob("samples-*.parquet")
    pq.write_table(pq.read_table(part, partitioning=None).drop_columns([*LATER_COLUMNS, "latency_ms"]), part)
    with pytest.raises(RecordingError, match="has other columns than a recording of this format"):
        folder.draws()


def test_a_solution_that_was_gone_on_with_pays_for_its_second_prompt() -> None:
    recording = SampleRecording(manifest(), {UNIT: draw()}, {(UNIT, 2): judged()}, {UNIT: np.array([True, False])})
    tokens = [recording.step(UNIT, StepOption("small", k, 2)).prompt_tokens for k in (1, 2)]
    assert tokens == [7 + 4, 7 + 4 + 40]


def test_a_step_is_the_first_k_samples_cut_after_l_lines() -> None:
    recording = SampleRecording(manifest(), {UNIT: draw()}, {(UNIT, 2): judged()}, {UNIT: np.array([True, False])})
    step = recording.step(UNIT, StepOption("small", 2, 1))
    assert [answer.source for answer in step.candidates] == ["a1", "a2"]
    assert step.matrix.verdicts.tolist() == [[0, 0], [0, 3]], "line 1 of each test sample"
    assert step.completion_tokens == 10 + 20 + 3 + 6
    assert step.prompt_tokens == 7 + 4 + 40
    assert recording.step(UNIT, StepOption("small", 2, 2)).completion_tokens == 10 + 20 + 5 + 6


def test_a_drawn_answer_is_the_greedy_one_or_one_of_the_run() -> None:
    greedy = Unit("small", "t/0", GREEDY)
    draws = {UNIT: draw(), greedy: Draw((RecordedSample("g", 8, prompt_tokens=7, continued_prompt_tokens=2),), {})}
    verdicts = VerdictMatrix(np.array([[0, 1], [0, 0]], np.int8), np.array([0.1, 0.2]))
    given = {
        UNIT: JudgedGiven(verdicts, ("g", "h"), ""),
        greedy: JudgedGiven(VerdictMatrix(verdicts.verdicts[:1], np.ones(1)), ("g", "h"), ""),
    }
    correct = {UNIT: np.array([False, True]), greedy: np.array([True])}
    recording = SampleRecording(manifest(), draws, {(UNIT, 2): judged()}, correct, {UNIT: (False, True)}, given=given)
    assert recording.draws_of("small") == 3
    assert recording.given_tests("t/0") == ("g", "h")
    first, last = recording.draw("small", "t/0", 0, 0), recording.draw("small", "t/0", 0, 2)
    assert (first.candidate.source, first.candidate.cut, first.correct) == ("g", False, True)
    assert (first.prompt_tokens, first.completion_tokens) == (9, 8)
    assert (last.candidate.source, last.candidate.cut, last.correct) == ("a2", True, True)
    assert (last.prompt_tokens, last.completion_tokens) == (47, 20)
    assert (last.verdicts.verdicts.tolist(), last.verdicts.cpu_s.tolist()) == ([[0, 0]], [0.2])
    with pytest.raises(RecordingError, match="holds no judged solution 3 of tier 'small', task t/0, run 0"):
        recording.draw("small", "t/0", 0, 3)


def test_fewer_solutions_are_tested_by_fewer_test_samples() -> None:
    assert judged().cut(1, 2).verdicts.tolist() == [[0, 1]]
    assert judged().cut(2, 2).verdicts.tolist() == [[0, 1, 0], [0, 0, 3]]
    assert judged().cut(1, 1).cpu_s.tolist() == [pytest.approx(0.1)], "a third of the lines, a third of the time"


def test_an_l_whose_tokens_were_not_measured_is_not_offered() -> None:
    sample = RecordedSample("x\ny\nz\nw", 9, asked_lines=4, line_tokens=(None, 4, None, 9))
    draws = {UNIT: Draw((RecordedSample("a", 1),) * 2, {4: (sample,) * 2})}
    verdicts = Judged(
        VerdictMatrix(np.zeros((2, 8), np.int8), np.zeros(2)), ("x",) * 8, (0,) * 4 + (1,) * 4, (1, 2, 3, 4) * 2, ""
    )
    recording = SampleRecording(manifest(), draws, {(UNIT, 4): verdicts}, {UNIT: np.ones(2, np.bool_)})
    assert recording.options("small") == (StepOption("small", 2, 2), StepOption("small", 2, 4))
    with pytest.raises(RecordingError, match="no 2 × 3 judged test lines"):
        recording.step(UNIT, StepOption("small", 2, 3))


def test_a_text_that_ended_early_costs_the_same_for_every_further_line() -> None:
    sample = RecordedSample("x\ny", 9, asked_lines=4, line_tokens=(5, 9))
    assert [sample.tokens_at(lines) for lines in range(1, 6)] == [5, 9, 9, 9, None]
    assert [replace(sample, line_tokens=()).tokens_at(lines) for lines in range(1, 6)] == [None, None, None, 9, None]


def test_lines_that_are_no_tests_count_as_lines() -> None:
    verdicts = VerdictMatrix(np.array([[0, 1]], np.int8), np.zeros(1))
    judged = Judged(verdicts, ("x", "y"), (0, 0), (1, 3), "")
    assert [judged.cut(1, lines).verdicts.tolist() for lines in (1, 2, 3)] == [[[0]], [[0]], [[0, 1]]]


def test_greedy_answers_serve_k_0_and_k_1() -> None:
    unit = Unit("small", "t/0", GREEDY)
    draws = {unit: Draw((RecordedSample("a", 3),), {2: (RecordedSample("x", 2, asked_lines=2),)})}
    verdicts = Judged(VerdictMatrix(np.zeros((1, 1), np.int8), np.zeros(1)), ("x",), (0,), (1,), "")
    recording = SampleRecording(manifest(), draws, {(unit, 2): verdicts}, {unit: np.ones(1, np.bool_)})
    assert recording.options("small") == (StepOption("small", 0, 0), StepOption("small", 1, 2))
    assert recording.step(unit, StepOption("small", 0, 0)).completion_tokens == 3
    assert recording.step(unit, StepOption("small", 1, 2)).completion_tokens == 5


@given(st.data())
def test_a_stage_scores_just_what_it_was_scored(data: st.DataObject) -> None:
    candidates = data.draw(st.integers(1, 10))
    lines = data.draw(st.integers(1, 40))
    n_t, n_s = data.draw(st.one_of(st.just((0, 0)), st.tuples(st.integers(1, candidates), st.integers(1, lines))))
    score = score_candidates(matrix_with(PublishedStep(n_s, n_t, candidates * lines, 1, True), candidates))
    assert (score.agreement, score.pairs) == (n_s * n_t, candidates * lines)


def test_stages_are_loaded_as_they_were_added(tmp_path: Path) -> None:
    folder = create_recording(tmp_path / "r", manifest())
    stages = {(UNIT, StepOption("small", 3, 2)): PublishedStep(6, 3, 18, 704, True)}
    folder.add_stages(stages)
    recording = folder.load()
    assert isinstance(recording, PublishedRecording)
    assert recording.stages == stages


def test_many_parts_are_merged_and_nothing_is_lost(tmp_path: Path) -> None:
    folder = create_recording(tmp_path / "r", manifest())
    units = {Unit("small", f"t/{n}", 0): draw(str(n)) for n in range(parts.MERGE_AT + 5)}
    with folder.writing():
        for unit, answer in units.items():
            folder.add_draws({unit: answer})
            assert len(list(folder.path.glob("samples-*"))) <= parts.MERGE_AT
    assert [path.name for path in folder.path.glob("samples-*")] == [f"samples-{parts.MERGE_AT + 7:06d}.parquet"]
    assert folder.draws() == units


def test_equal_rows_left_by_an_interrupted_merge_count_once(tmp_path: Path) -> None:
    folder = create_recording(tmp_path / "r", manifest())
    folder.add_draws({UNIT: draw()})
    first = folder.path / "samples-000001.parquet"
    (folder.path / "samples-000002.parquet").write_bytes(first.read_bytes())
    assert folder.draws() == {UNIT: draw()}


KILLED = """
from pathlib import Path
from tests.unit.client.test_recordings import draw
from codecascade_client.recording.recording import Unit
from codecascade_client.recording.store import open_recording
folder = open_recording(Path({folder!r}))
with folder.writing():
    for n in range(1_000_000):
        folder.add_draws({{Unit("small", f"t/{{n}}", 0): draw(str(n))}})
        print(n, flush=True)
"""


@pytest.mark.parametrize("after", [1, 20, 31, 33])
def test_a_writer_killed_at_any_moment_loses_nothing_that_it_had_finished(tmp_path: Path, after: int) -> None:
    folder = create_recording(tmp_path / "r", manifest())
    script = KILLED.format(folder=str(folder.path))
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        finished = [int(line) for line, _ in zip(writer.stdout, range(after), strict=False)]
        os.kill(writer.pid, signal.SIGKILL)
    draws = folder.draws()
    assert len(finished) == after
    for n in finished:
        assert draws[Unit("small", f"t/{n}", 0)] == draw(str(n))
    with folder.writing():
        assert not list(folder.path.glob("*.unfinished"))


def test_two_writers_at_once_are_refused(tmp_path: Path) -> None:
    folder = create_recording(tmp_path / "r", manifest())
    with folder.writing(), pytest.raises(RecordingError, match="is being written by another process"), folder.writing():
        pass


@pytest.mark.parametrize("size", [0, 10, 900])
def test_a_truncated_part_is_named(tmp_path: Path, size: int) -> None:
    folder = create_recording(tmp_path / "r", manifest())
    folder.add_draws({UNIT: draw()})
    part = folder.path / "samples-000001.parquet"
    part.write_bytes(part.read_bytes()[:size])
    with pytest.raises(RecordingError, match=r"samples-000001.parquet is truncated or not a part of a recording") as refused:
        folder.draws()
    assert "\n" not in str(refused.value)


def test_a_part_of_another_recording_is_refused(tmp_path: Path) -> None:
    folder = create_recording(tmp_path / "r", manifest())
    other = create_recording(tmp_path / "other", manifest(family="other"))
    other.add_draws({UNIT: draw()})
    (other.path / "samples-000001.parquet").rename(folder.path / "samples-000001.parquet")
    with pytest.raises(RecordingError, match="belongs to another recording"):
        folder.draws()


def test_a_full_disk_is_said_and_keeps_what_was_recorded(tmp_path: Path) -> None:
    folder = create_recording(tmp_path / "r", manifest())
    folder.add_draws({UNIT: draw()})
    script = (
        "import resource, signal; from pathlib import Path;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from tests.unit.client.test_recordings import UNIT, draw; from codecascade_client.recording.store import open_recording;"
        f"open_recording(Path({str(folder.path)!r})).add_draws({{UNIT: draw('other')}})"
    )
    stopped = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "samples-000002.parquet cannot be written" in stopped.stderr
    assert "File too large); what was recorded before it is kept" in stopped.stderr
    assert folder.draws() == {UNIT: draw()}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 9}', "has format 9, this version reads format 1"),
        ('{"format": 1, "family": "x"}', "'dataset' is missing"),
        (
            '{"format": 1, "family": "x", "dataset": 0, "tiers": {"a": {"price_per_mtok": NaN}}, "settings": 0, "provenance": 0}',
            "price_per_mtok of tier 'a' is nan",
        ),
    ],
)
def test_a_bad_manifest_is_refused_in_one_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(RecordingError) as refused:
        open_recording(tmp_path)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"is not a recording: it has no manifest\.json"):
        open_recording(tmp_path)
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RecordingError, match="is not empty"):
        resume_recording(tmp_path, manifest())


def test_a_recording_resumes_only_as_what_it_was_begun(tmp_path: Path) -> None:
    begun = resume_recording(tmp_path / "r", manifest())
    assert resume_recording(tmp_path / "r", manifest(provenance={"by": "another day"})) == begun
    with pytest.raises(RecordingError, match=r"begun with different dataset: sha256: 'd+', now 'e+'"):
        resume_recording(tmp_path / "r", manifest(dataset={**DATASET, "sha256": "e" * 64}))
    with pytest.raises(RecordingError, match="begun with different settings: k: 2, now 3"):
        resume_recording(tmp_path / "r", manifest(settings={"k": 3}))


def test_a_recording_resumes_though_its_manifest_lacks_what_was_not_written_down_then(tmp_path: Path) -> None:
    known = {"price_per_mtok": 1.0, "prompt_price_per_mtok": 0.0, "weights_sha256": "a" * 64}
    begun = resume_recording(tmp_path / "r", manifest())
    assert resume_recording(tmp_path / "r", manifest(tiers={"small": known})) == begun
    with pytest.raises(RecordingError, match=r"different tiers: small: prompt_price_per_mtok: 0\.0, now 0\.2"):
        resume_recording(tmp_path / "r", manifest(tiers={"small": {**known, "prompt_price_per_mtok": 0.2}}))
    with pytest.raises(RecordingError, match=r"different sandbox_price_per_cpu_s: 0.0, now 1e-05"):
        resume_recording(tmp_path / "r", manifest(sandbox_price_per_cpu_s=1e-5))
    resume_recording(tmp_path / "new", manifest(tiers={"small": known}))
    with pytest.raises(RecordingError, match=r"different tiers: small: weights_sha256: 'a+', now 'b+'"):
        resume_recording(tmp_path / "new", manifest(tiers={"small": {**known, "weights_sha256": "b" * 64}}))
    with pytest.raises(RecordingError, match=r"different tiers: large: None, now"):
        resume_recording(tmp_path / "new", manifest(tiers={"small": known, "large": known}))


def test_the_columns_are_those_of_the_format_page() -> None:
    page = (ROOT / "docs" / "recording-format.md").read_text()
    assert [name for name in SAMPLES.names if f"`{name}`" not in page] == []
