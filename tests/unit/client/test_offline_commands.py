"""The offline commands as a user runs them: each in a process of its own, against a server that meets the tier contract."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from codecascade.plans import load_plans
from codecascade_client.recording.store import open_recording

from tests.unit.client.sums_deployment import write_deployment
from tests.unit.client.tier_server import ScriptedTier, serving

TASKS = 12
TLS = Path(__file__).parent / "tls"


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str


async def codecascade(*arguments: object, kill_after: str = "") -> Finished:
    """kill_after: the process is killed once its stderr has shown this."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from codecascade_client.cli.main import main; main()",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr
    assert process.stdout
    err = ""
    while line := (await process.stderr.readline()).decode():
        err += line
        if kill_after and kill_after in line:
            process.send_signal(signal.SIGKILL)
            break
    out = (await process.stdout.read()).decode()
    return Finished(await process.wait(), out, err)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "sums.jsonl"
    test = "def check(candidate):\n    assert candidate(20, 22) == 42\n"
    rows = [
        {"task_id": f"t/{n}", "prompt": f"def add_{n}(a, b):\n", "entry_point": f"add_{n}", "test": test} for n in range(TASKS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    return write_deployment(tmp_path)


@pytest.mark.slow
async def test_from_a_killed_recording_to_a_report(tmp_path: Path, dataset: Path, deployment: Path) -> None:
    folder, tier = tmp_path / "recording", ScriptedTier()
    async with serving(tier):
        record = ["record", folder, "--deployment", deployment, "--dataset", dataset, "--url", tier.address]
        killed = await codecascade(*record, kill_after="recording 7/48")
        assert killed.code == -signal.SIGKILL
        kept = open_recording(folder).recorded_units()
        assert len(kept) >= 7
        tier.asked.clear()
        resumed = await codecascade(*record)
        assert resumed.code == 0, resumed.err
    assert f"{len(kept)} of 48 units are recorded already" in resumed.err
    assert len(tier.asked) == 2 * (48 - len(kept)), "two calls for each unit that was missing, none for the others"

    judged = await codecascade("verdicts", folder, "--dataset", dataset)
    assert judged.code == 0, judged.err
    assert (await codecascade("verdicts", folder, "--dataset", dataset)).err == "", "nothing is judged twice"
    again = await codecascade("verdicts", folder, "--dataset", dataset, "--line-cpu-s", 0.5)
    assert "judged again within 0.5 CPU seconds a line, 5 a solution, 10 for the benchmark's tests: " in again.err
    assert "judging 48/48" in again.err

    plans = tmp_path / "plans.json"
    searched = await codecascade("search", folder, "--out", plans, "--splits", 2)
    assert searched.code == 0, searched.err
    assert "held out" in searched.out
    assert load_plans(plans).family == "sums"

    prices = tmp_path / "elsewhere.toml"
    prices.write_text("[tiers.small]\nprice_per_mtok = 0.5\n[tiers.large]\nprice_per_mtok = 10\n")
    repriced = await codecascade("search", folder, "--out", tmp_path / "other.json", "--splits", 2, "--prices", prices)
    assert "Prices of elsewhere.toml: a generated token costs 1 : 20 (small, large)" in repriced.out, repriced.err
    assert load_plans(tmp_path / "other.json").provenance["prices"]["from"] == "elsewhere.toml"
    own, other = [
        await codecascade("replay", plans, folder, "--plan", "small-alone", *more) for more in ([], ["--prices", prices])
    ]
    assert float(own.out.split()[-1]) == pytest.approx(2 * float(other.out.split()[-1]), abs=1e-4)

    reported = await codecascade("report", folder, "--out", tmp_path / "report", "--splits", 2)
    assert reported.out.strip() == str(tmp_path / "report" / "report.html")


class Talkative(ScriptedTier):
    """Writes as many tokens as it may."""

    def text(self, inputs: dict[str, Any], sequence: int) -> str:
        return "x " * int(inputs["max_tokens"])


@pytest.mark.parametrize("command", ["record", "price"])
async def test_tiers_are_asked_over_tls(
    tmp_path: Path, dataset: Path, deployment: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = [((TLS / "key.pem").read_bytes(), (TLS / "certificate.pem").read_bytes())]
    arguments: dict[str, list[object]] = {
        "record": ["record", tmp_path / "recording", "--dataset", dataset, "--limit", 1, "--tier", "small"],
        "price": ["price", "--dollars-per-hour", 1, "--tier", "small"],
    }
    tier = Talkative()
    async with serving(tier, credentials=grpc.ssl_server_credentials(pair)):
        asked = [*arguments[command], "--deployment", deployment, "--url", tier.address]
        monkeypatch.setenv("CODECASCADE_ROOT_CERTIFICATES", str(tmp_path / "nowhere.pem"))
        unread = await codecascade(*asked)
        assert (unread.code, tier.asked) == (2, [])
        assert unread.err == f"error: {tmp_path / 'nowhere.pem'} cannot be read for TLS: No such file or directory\n"
        monkeypatch.setenv("CODECASCADE_ROOT_CERTIFICATES", str(TLS / "certificate.pem"))
        done = await codecascade(*asked)
    assert done.code == 0, done.err
    assert tier.asked
    if command == "price":
        assert "1 call at a time: " in done.err
        assert "Speed(" not in done.err


@pytest.fixture
def other(tmp_path: Path, dataset: Path) -> Path:
    """The same tasks with other tests."""
    path = tmp_path / "other.jsonl"
    path.write_text(dataset.read_text().replace("42", "43"))
    return path


@pytest.mark.slow
async def test_what_cannot_be_done_is_one_sentence(tmp_path: Path, dataset: Path, other: Path, deployment: Path) -> None:
    begun = tmp_path / "recording"
    record = ["record", begun, "--deployment", deployment, "--dataset", dataset, "--limit", 2]
    async with serving(tier := ScriptedTier()):
        assert (await codecascade(*record, "--url", tier.address)).code == 0
    for arguments, sentence in (
        ([*record, "--k", 5], "was begun with different settings: k: 3, now 5"),
        ([*record, "--lines-asked", 2], "was begun with different settings: test_lines: 4, now 2"),
        (["verdicts", begun, "--dataset", other], "is of another dataset: 'sums' with SHA-256"),
        (["search", begun], "holds nothing judged of tier 'small'"),
        (["search", begun, "--prices", tmp_path / "no.toml"], "no.toml cannot be used: No such file or directory"),
        (["search", tmp_path], "is not a recording: it has no manifest.json"),
        (["record", tmp_path / "new", "--deployment", other], "cannot be used"),
        (["import-published", tmp_path, tmp_path / "new"], "cannot be read as published runs: No such file"),
    ):
        finished = await codecascade(*arguments)
        assert finished.code == 1, arguments
        assert finished.err.startswith("error: ")
        assert sentence in finished.err
        assert finished.err.count("\n") == 1
