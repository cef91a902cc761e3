import csv
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from codecascade.sandbox import SandboxPool
from codecascade.types import Verdict
from codecascade_build.paths import ROOT
from codecascade_build.recipes import load_recipe
from codecascade_client.datasets.load import HUMANEVAL, load_dataset
from codecascade_client.errors import RecordingError
from codecascade_client.recording.judge import judge, unjudged
from codecascade_client.recording.published import import_published, read_plan_tables
from codecascade_client.recording.recording import GREEDY, SampleRecording, StepOption, Unit

from tests.bench import check_published

TRACES = ROOT.parent / "shared" / "traces" / "wizardcoder_python_humaneval"

STAGES = [
    # tier, k, l, run, n_s, n_t, pairs, tokens, correct
    ("7B", 0, 0, "greedy", 0, 0, 0, 100, 1),
    ("7B", 3, 2, 0, 4, 1, 18, 600, 0),
    ("7B", 3, 2, 1, 6, 3, 18, 700, 1),
    ("13B", 0, 0, "greedy", 0, 0, 0, 150, 0),
    ("34B", 0, 0, "greedy", 0, 0, 0, 200, 1),
]
TASKS = 10
SOLUTION = "def truncate_number(number: float) -> float:\n    return number % 1.0\n"
ESCALATED = (600 * 1.91 + 200 * 20.24) / 1e3
ACCEPTED = 700 * 1.91 / 1e3


def write_csv(path: Path, header: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def published(folder: Path, plans: Mapping[str, Sequence[Sequence[Any]]]) -> Path:
    """A folder of the published form: in each task the 7B accepts in one run of two, the 34B answers in the other."""
    (folder / "plans").mkdir(parents=True)
    rows = ((*s[:4], f"HumanEval/{task}", *s[4:]) for task in range(TASKS) for s in STAGES)
    header = ["tier", "k", "l", "run", "task", "n_s", "n_t", "pairs", "tokens", "correct"]
    write_csv(folder / "stages.csv.gz", header, rows)
    header = ["k1", "k2", "k3", "t1", "t2", "t3", "loop", "cost", "accuracy"]
    for name, table in plans.items():
        write_csv(folder / "plans" / name, header, iter(table))
    return folder


CASCADE = (3, -1, 0, 2, 0, 0, 9)
GREEDY_13B = (-1, 0, -1, 0, 0, 0, 0)


def test_published_plans_are_reproduced_on_all_tasks_and_on_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(*CASCADE, (ESCALATED + ACCEPTED) / 2, 100.0), (*GREEDY_13B, 150 * 6.65 / 1e3, 0.0)]
    names = ("full_threshold0.5.csv", "7_val_threshold0.5.csv", "7_test_threshold0.5.csv")
    folder = published(tmp_path / "traces", dict.fromkeys(names, rows))
    assert check_published.main(folder) == 0
    printed = capsys.readouterr().out
    assert "7_val_threshold0.5.csv: 2 of 2 plans on 3 tasks" in printed
    assert "6 of 6 published plans reproduced" in printed


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ((*CASCADE, (ESCALATED + ACCEPTED) / 2 * 1.00001, 100.0), "plan 3,-1,0,2,0,0: published cost"),
        ((*CASCADE, (ESCALATED + ACCEPTED) / 2, 99.0), "published cost"),
        ((5, -1, 0, 2, 0, 0, 9, 1.0, 100.0), "plan 5,-1,0,2,0,0: k = 5, l = 2 of tier 'wizardcoder-python-7b' was not recorded"),
    ],
)
def test_a_row_that_is_not_reproduced_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: Sequence[Any], named: str
) -> None:
    assert check_published.main(published(tmp_path / "traces", {"full_threshold0.5.csv": [row]})) == 1
    printed = capsys.readouterr().out
    assert "full_threshold0.5.csv:2: " in printed
    assert named in printed
    assert "0 of 1 published plans reproduced" in printed


def test_the_tiers_are_named_and_priced_as_in_the_familys_recipe(tmp_path: Path) -> None:
    manifest = import_published(published(tmp_path / "traces", {}), tmp_path / "recording", stages=True).manifest
    deployed = {tier.name: tier.gpu.price_per_mtok for tier in load_recipe(manifest.family).tiers if tier.gpu}
    assert {name: tier["price_per_mtok"] for name, tier in manifest.tiers.items()} == deployed


def test_samples_are_imported_with_the_tokens_of_both_cuts(tmp_path: Path) -> None:
    rows = [
        {"tier": "7B", "run": 0, "task": "HumanEval/1", "kind": "solution", "sample": 0, "text": "def f(): …", "tokens": 30},
        {"tier": "7B", "run": 0, "task": "HumanEval/1", "kind": "solution", "sample": 1, "text": "def f(): ?", "tokens": 40},
        {"tier": "7B", "run": "greedy", "task": "HumanEval/1", "kind": "solution", "sample": 0, "text": "def", "tokens": 3},
        *(
            {"tier": "7B", "run": 0, "task": "HumanEval/1", "kind": "tests", "sample": n, "text": "assert", "tokens_at": cuts}
            for n, cuts in ((1, {"2": 11, "4": 21}), (0, {"2": 10, "4": 20}))
        ),
    ]
    with gzip.open(tmp_path / "samples.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    recording = import_published(tmp_path, tmp_path / "recording", stages=False).load()
    assert isinstance(recording, SampleRecording)
    assert set(recording.draws) == {
        Unit("wizardcoder-python-7b", "HumanEval/1", 0),
        Unit("wizardcoder-python-7b", "HumanEval/1", GREEDY),
    }
    draw = recording.draws[Unit("wizardcoder-python-7b", "HumanEval/1", 0)]
    assert [sample.completion_tokens for sample in draw.solutions] == [30, 40]
    assert draw.solutions[0].text == "import math\nfrom typing import List, Tuple\n\ndef f(): …"
    assert [sample.tokens_at(2) for sample in draw.tests[4]] == [10, 11]
    assert [sample.tokens_at(4) for sample in draw.tests[4]] == [20, 21]
    assert [sample.tokens_at(3) for sample in draw.tests[4]] == [None, None]


async def test_published_samples_are_judged_by_the_authors_own_lines(tmp_path: Path) -> None:
    """Lines that cannot fail or do not parse count too; only single lines do."""
    text = "assert truncate_number(3.5) != 7\nassert (truncate_number(3.5) == 1, '')\nassert truncate_number(\n3.5) == 0.5"
    rows = [
        {"tier": "7B", "run": 0, "task": "HumanEval/2", "kind": "solution", "sample": 0, "text": SOLUTION, "tokens": 30},
        {"tier": "7B", "run": 0, "task": "HumanEval/2", "kind": "tests", "sample": 0, "text": text, "tokens_at": {"4": 21}},
    ]
    with gzip.open(tmp_path / "samples.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    folder = import_published(tmp_path, tmp_path / "recording", stages=False)
    tasks = load_dataset(HUMANEVAL)
    async with SandboxPool(workers=1) as pool:
        await judge(folder, tasks, unjudged(folder, tasks), pool, lambda units: None)
    judged = folder.judged()[Unit("wizardcoder-python-7b", "HumanEval/2", 0), 4]
    assert judged.lines == tuple(text.split("\n")[:3])
    assert judged.matrix.verdicts.tolist() == [[Verdict.PASS, Verdict.PASS, Verdict.ERROR]]
    assert unjudged(folder, tasks) == {}


def test_a_folder_without_published_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"stages\.csv\.gz cannot be read as published runs: No such file"):
        import_published(tmp_path, tmp_path / "recording", stages=True)
    with pytest.raises(RecordingError, match="holds no plan files"):
        read_plan_tables(tmp_path)


def test_a_truncated_stage_table_is_named(tmp_path: Path) -> None:
    folder = published(tmp_path / "traces", {})
    whole = (folder / "stages.csv.gz").read_bytes()
    (folder / "stages.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordingError, match="cannot be read as published runs"):
        import_published(folder, tmp_path / "recording", stages=True)
    assert not (tmp_path / "recording").exists()


@pytest.mark.skipif(not TRACES.is_dir(), reason="the published runs have no licence and are not part of this repository")
def test_the_published_runs_give_the_papers_greedy_accuracies(tmp_path: Path) -> None:
    recording = import_published(TRACES, tmp_path / "recording", stages=True).load()
    tasks = recording.manifest.dataset["task_ids"]
    right = {
        tier: sum(recording.step(Unit(tier, task, GREEDY), StepOption(tier, 0, 0)).correct[0] for task in tasks)
        for tier in recording.manifest.tiers
    }
    assert {tier: round(100 * count / len(tasks), 1) for tier, count in right.items()} == {
        "wizardcoder-python-7b": 56.7,
        "wizardcoder-python-13b": 64.6,
        "wizardcoder-python-34b": 72.6,
    }
