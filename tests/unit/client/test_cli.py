"""The command line, from its arguments to its exit code, against a gRPC server that speaks Triton's protocol."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import grpc  # type: ignore[import-untyped]
import numpy as np
import pytest
import typer.main
from codecascade_client.cli import main as cli
from codecascade_client.datasets.humaneval import humaneval, humaneval_task
from codecascade_client.recording.recording import GREEDY, Draw, RecordedSample, RecordingManifest, Unit
from codecascade_client.recording.store import Truth, create_recording
from codecascade_client.terminal import NARROW
from typer.core import TyperGroup

from tests.unit.client import synthetic_recordings as synthetic
from tests.unit.client.fake_cascade import Answer, Failure, serving, trace

CODE = "def f():\n    return 1\n"
ESCALATED = trace(
    {"tier": "small", "decision": "escalate", "score": 0.25, "reason": "score 0.250 < threshold 0.7"},
    {
        "tier": "large",
        "k": 0,
        "solutions": 1,
        "n_test_lines": 0,
        "score": 0.0,
        "log_prob": -2.345,
        "reason": "greedy, not tested",
    },
    note="a note",
)


class Run:
    """What a command did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Command = Callable[..., Run]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    for name in ("URL", "TLS", "ROOT_CERTIFICATES", "TIMEOUT_S"):
        monkeypatch.delenv(f"CODECASCADE_{name}", raising=False)

    def run(*arguments: object) -> Run:
        monkeypatch.setattr(sys, "argv", ["codecascade", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        return Run(int(exited.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture
def prompt_file(tmp_path: Path) -> Path:
    path = tmp_path / "prompt.py"
    path.write_text("def f():\n")
    return path


def test_complete_prints_the_code_and_nothing_else_on_stdout(command: Command, prompt_file: Path) -> None:
    with serving(lambda _: Answer(CODE, trace=ESCALATED)) as server:
        run = command("complete", "--prompt-file", prompt_file, "--url", server.address)
    assert (run.code, run.out) == (0, CODE)
    assert server.requests == [{"prompt": "def f():\n", "seed": 0, "return_trace": True}]


def test_complete_ends_the_code_with_a_newline(command: Command, prompt_file: Path) -> None:
    with serving(lambda _: Answer("x = 1", trace=trace({}))) as server:
        assert command("complete", "--prompt-file", prompt_file, "--url", server.address).out == "x = 1\n"


def test_complete_tells_on_stderr_what_each_tier_did(command: Command, prompt_file: Path) -> None:
    drawn = {"tier": "drawn", "n_given_tests": 3, "n_test_lines": 0, "score": 2 / 3, "reason": "2 of 3 pass"}
    small, large = ESCALATED["steps"]
    with serving(lambda _: Answer(CODE, trace=trace(small, drawn, large, note="a note"))) as server:
        lines = command("complete", "--prompt-file", prompt_file, "--url", server.address).err.splitlines()
    assert [" ".join(line.split()) for line in lines[:5]] == [
        "tier answers given tests own tests log-prob decision tokens cost ms",
        "small 3 – 6, score 0.250 – escalate 250 2.5 µ$ 1,200",
        "drawn 3 2 of 3 – – accept 250 2.5 µ$ 1,200",
        "large 1 – – -2.35 accept 250 2.5 µ$ 1,200",
        "all 750 7.5 µ$ 1,234",
    ]
    reasons = ["small: score 0.250 < threshold 0.7", "drawn: 2 of 3 pass", "large: greedy, not tested"]
    assert lines[5:] == [*reasons, "Tested: f", "Note: a note"]


def test_complete_json_is_one_object_on_stdout(command: Command, prompt_file: Path) -> None:
    with serving(lambda _: Answer(CODE, "large", 0.0, 5e-6, ESCALATED)) as server:
        run = command("complete", "--prompt-file", prompt_file, "--url", server.address, "--json")
    expected = {
        "text": CODE,
        "tier": "large",
        "score": 0.0,
        "cost_usd": 5e-6,
        "trace": ESCALATED,
        "inserted": "    return 1\n",
        "finish_reason": "stop",
    }
    assert (run.code, json.loads(run.out), run.err) == (0, expected, "")


def test_complete_hands_its_options_over(command: Command, prompt_file: Path) -> None:
    options = ["--entry-point", "f", "--plan", "thrifty", "--seed", "7", "--max-tokens", "99", "--cursor", "3"]
    for name, text in (("a.py", "assert f() == 1\n"), ("b.py", "def test_f():\n    f()\n")):
        (prompt_file.parent / name).write_text(text)
        options += ["--tests", str(prompt_file.parent / name)]
    (prompt_file.parent / "cases.jsonl").write_text('{"input": "3 4\\n", "output": "7"}\n\n{"input": "", "output": "\u2028"}\n')
    options += ["--cases", str(prompt_file.parent / "cases.jsonl")]
    with serving(lambda _: Answer(trace=trace({}))) as server:
        command("complete", "--prompt-file", prompt_file, "--url", server.address, *options)
    assert server.requests == [
        {
            "prompt": "def f():\n",
            "entry_point": "f",
            "cursor": 3,
            "tests": ["assert f() == 1\n", "def test_f():\n    f()\n"],
            "cases": ['{"input": "3 4\\n", "output": "7"}', '{"input": "", "output": "\\u2028"}'],
            "plan": "thrifty",
            "seed": 7,
            "max_tokens": 99,
            "return_trace": True,
        }
    ]


def test_a_file_of_cases_that_is_not_json_lines_is_named(command: Command, prompt_file: Path) -> None:
    cases = prompt_file.parent / "cases.jsonl"
    cases.write_text('{"input": "1", "output": "2"}\n{"input": "1"\n')
    run = command("complete", "--prompt-file", prompt_file, "--cases", cases)
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith(f"error: line 2 of the cases file {cases} is not JSON: Expecting")


def test_complete_takes_a_task_with_its_entry_point_and_keeps_its_tests(command: Command) -> None:
    with serving(lambda _: Answer(trace=trace({}))) as server:
        command("complete", "--task", "HumanEval/32", "--url", server.address)
    (request,) = server.requests
    assert request == {
        "prompt": humaneval_task("HumanEval/32").prompt,
        "entry_point": "find_zero",
        "seed": 0,
        "return_trace": True,
    }


def test_the_address_comes_from_the_environment(command: Command, prompt_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda _: Answer(trace=trace({}))) as server:
        monkeypatch.setenv("CODECASCADE_URL", server.address)
        assert command("complete", "--prompt-file", prompt_file).code == 0


def test_a_refusal_is_one_sentence_and_exit_code_1(command: Command, prompt_file: Path) -> None:
    with serving(lambda _: Failure(grpc.StatusCode.INVALID_ARGUMENT, "plan 'x' is unknown, allowed are y")) as server:
        run = command("complete", "--prompt-file", prompt_file, "--plan", "x", "--url", server.address)
    assert (run.code, run.out) == (1, "")
    assert run.err == "error: plan 'x' is unknown, allowed are y (INVALID_ARGUMENT)\n"


def test_an_absent_server_is_one_sentence_and_exit_code_1(command: Command, prompt_file: Path) -> None:
    run = command("complete", "--prompt-file", prompt_file, "--url", "127.0.0.1:1")
    assert (run.code, run.out, run.err) == (1, "", "error: no server answers at 127.0.0.1:1: is it running? (UNAVAILABLE)\n")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the prompt file {path} is empty"),
        (b" \n", "the prompt file {path} is empty"),
        (b"x = \xff", "the prompt file {path} is not UTF-8 (at byte 4)"),
        (None, "the prompt file {path} cannot be read: No such file or directory"),
    ],
)
def test_a_prompt_file_without_a_prompt_is_one_sentence_and_exit_code_2(
    command: Command, tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    path = tmp_path / "prompt.py"
    if content is not None:
        path.write_bytes(content)
    run = command("complete", "--prompt-file", path)
    assert (run.code, run.out, run.err) == (2, "", f"error: {sentence.format(path=path)}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["complete"], "exactly one of --prompt-file and --task is needed"),
        (["complete", "--prompt-file", "a", "--task", "HumanEval/0"], "exactly one of --prompt-file and --task is needed"),
        (["complete", "--task", "HumanEval/999"], "there is no task 'HumanEval/999'"),
        (["complete", "--task", "HumanEval/0", "--seed", "-1"], "--seed"),
        (["complete", "--task", "HumanEval/0", "--url", "http://x"], "the server's address is 'http://x'"),
        (["eval", "--tasks", "5-2"], "--tasks is '5-2', the tasks are 0-163"),
        (["eval", "--tasks", "0-164"], "--tasks is '0-164', the tasks are 0-163"),
        (["eval", "--tasks", "a-b"], "--tasks is 'a-b', it must be A-B"),
        (["frobnicate"], "No such command"),
    ],
)
def test_a_wrong_command_is_exit_code_2(command: Command, arguments: list[str], words: str) -> None:
    run = command(*arguments)
    assert (run.code, run.out) == (2, "")
    assert words in " ".join(run.err.replace("│", " ").split())


def test_a_setting_that_is_no_setting_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECASCADE_TIMEOUT_S", "soon")
    run = command("complete", "--task", "HumanEval/0")
    assert run.code == 2
    assert run.err.startswith("error: CODECASCADE_TIMEOUT_S is 'soon': ")


PLANS: dict[str, Any] = {
    "format": 1,
    "family": "scripted",
    "provenance": {"method": "written by hand"},
    "default": "two",
    "plans": {
        "two": {
            "given_tests": [{"tier": "small", "draws": 5}, {"tier": "large", "draws": 2}],
            "steps": [{"tier": "small", "k": 3, "lines_per_sample": 2, "threshold": 0.7}, {"tier": "large", "k": 0}],
        },
        "one": {"steps": [{"tier": "large", "k": 1, "lines_per_sample": 4, "threshold": 0.5}]},
    },
}


def test_plans_lists_the_plans_of_the_folder(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "scripted.json").write_text(json.dumps(PLANS))
    monkeypatch.chdir(tmp_path)
    run = command("plans")
    assert run.code == 0
    assert [" ".join(line.split()) for line in run.out.splitlines()] == [
        "plans/scripted.json: family scripted; written by hand",
        "plan requests tier k test lines accepts",
        "two (default) with tests small 5 all pass",
        "large 2 all pass",
        "without tests small 3 2 θ=0.7",
        "large 0 0 always accepts",
        "one all large 1 4 always accepts",
    ]


def test_plans_says_what_is_wrong_with_a_corrupt_file(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    path.write_text("{")
    run = command("plans", path)
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith(f"error: plan file {path} cannot be read: ")


@pytest.mark.parametrize(("low", "code", "words"), [(0.5, 0, "overlap"), (0.99, 1, "are apart")])
def test_eval_compares_with_what_the_plan_file_promises(
    command: Command, tmp_path: Path, low: float, code: int, words: str
) -> None:
    solutions = {task.prompt: task.prompt + task.canonical_solution for task in humaneval().values()}
    solutions[humaneval_task("HumanEval/1").prompt] = "x = 1\n"
    promised = {"steps": [{"tier": "small", "k": 0}], "held_out": {"accuracy": {"mean": 1.0, "low": low, "high": 1.0}}}
    file = {"format": 1, "family": "tiny", "provenance": {}, "default": "p", "plans": {"p": promised}}
    (tmp_path / "plans.json").write_text(json.dumps(file))
    with serving(lambda asked: Answer(solutions[asked["prompt"]], "small", 1.0, 0.0, trace({}))) as server:
        done = command("eval", "--tasks", "0-2", "--promised", str(tmp_path / "plans.json"), "--url", server.address)
    assert done.code == code, done.err
    assert f"promised on held-out tasks: 100.0% (95 %: {low:.1%} to 100.0%), seen: 66.7% (95 %: 20.8% to 93.9%)" in done.out
    assert done.out.rstrip().endswith(f"the intervals {words}")


def test_eval_counts_the_answers_that_are_as_recorded(command: Command, tmp_path: Path) -> None:
    solutions = {task.prompt: task.prompt + task.canonical_solution for task in humaneval().values()}
    promised = {"steps": [{"tier": "small", "k": 0}], "held_out": {"accuracy": {"mean": 1.0, "low": 0.9, "high": 1.0}}}
    file = {"format": 1, "family": "tiny", "provenance": {}, "default": "p", "plans": {"p": promised}}
    (tmp_path / "plans.json").write_text(json.dumps(file))
    recorded = {"HumanEval/0": (250, True), "HumanEval/1": (249, True), "HumanEval/2": (250, False), "HumanEval/3": (250, True)}
    folder = create_recording(
        tmp_path / "r",
        RecordingManifest(
            family="tiny",
            dataset={"name": "humaneval", "sha256": "0" * 64, "task_ids": list(recorded)},
            tiers={"small": {"price_per_mtok": 1.0}},
            settings={"k": 3, "test_lines": 4, "seed": 0},
            provenance={},
        ),
    )
    for name, (tokens, correct) in recorded.items():
        unit = Unit("small", name, GREEDY)
        folder.add_draws({unit: Draw((RecordedSample("    pass", tokens),), {})})
        folder.add_truth({unit: Truth(np.array([not correct], np.int8), "", (False,))})
    arguments = ("--promised", str(tmp_path / "plans.json"), "--recording", str(tmp_path / "r"))
    with serving(lambda asked: Answer(solutions[asked["prompt"]], "small", 1.0, 0.0, trace({}))) as server:
        done = command("eval", "--tasks", "0-3", *arguments, "--url", server.address)
        assert (done.code, "as recorded (tier, tokens, tests): 2 of 4" in done.out) == (0, True), done.err
        done = command("eval", "--tasks", "3-4", *arguments, "--url", server.address)
    assert done.err.splitlines()[-1].startswith("error: tier 'small', task HumanEval/4, run -1 is not in the recording")


def test_evidence_prints_tables_that_fit(command: Command, tmp_path: Path) -> None:
    recording = synthetic.recording(7, tasks=9)
    folder = create_recording(tmp_path / "recording", recording.manifest)
    folder.add_draws(recording.draws)
    unjudged = command("evidence", folder.path)
    assert (unjudged.code, unjudged.out) == (2, "")
    assert unjudged.err == "error: no answer of the recording is judged: `codecascade verdicts` judges it\n"
    truth = {unit: Truth(np.where(right, 0, 1).astype(np.int8), "", None) for unit, right in recording.correct.items()}
    folder.add_truth({unit: solutions for unit, solutions in truth.items() if unit != Unit("large", "t/0", GREEDY)})
    folder.add_judged(recording.judged)
    folder.add_given(recording.given)
    judged = command("evidence", folder.path)
    assert (judged.code, judged.err) == (0, "")
    lines = judged.out.splitlines()
    assert max(map(len, lines)) <= NARROW
    assert "…" not in judged.out
    for title in (
        "small, greedy: 9 answers to 9 tasks of tiny",
        "small, sampled: 54 answers to 9 tasks of tiny",
        "large, greedy: 8 answers to 8 tasks of tiny",
    ):
        assert title in lines
    assert len([line for line in lines if line.startswith("mean log-probability  ")]) == (1 + 4) * 6


def test_eval_says_at_once_that_a_plan_written_by_hand_promises_nothing(command: Command, tmp_path: Path) -> None:
    file = {"format": 1, "family": "tiny", "provenance": {}, "default": "p", "plans": {"p": {"steps": [{"tier": "s", "k": 0}]}}}
    (tmp_path / "plans.json").write_text(json.dumps(file))
    done = command("eval", "--tasks", "0-0", "--promised", str(tmp_path / "plans.json"), "--url", "127.0.0.1:1")
    assert (done.code, done.err.splitlines()[-1]) == (1, "error: plan 'p' promises nothing: it was not searched")


def test_eval_checks_the_answers_with_the_benchmarks_own_tests(command: Command) -> None:
    solutions = {task.prompt: task.prompt + task.canonical_solution for task in humaneval().values()}
    wrong = humaneval_task("HumanEval/1").prompt

    def answer(inputs: dict[str, Any]) -> Answer:
        if inputs["prompt"] == wrong:
            return Answer(wrong + "    return []\n", "large", 0.0, 5e-6, ESCALATED)
        return Answer(solutions[inputs["prompt"]], "small", 1.0, 2.5e-6, trace({}))

    with serving(answer) as server:
        passing = command("eval", "--tasks", "0-2", "--plan", "p", "--at-least", "2", "--url", server.address)
        failing = command("eval", "--tasks", "0-2", "--at-least", "3", "--url", server.address)
    assert [line.split()[:3] for line in passing.out.splitlines()[1:4]] == [
        ["HumanEval/0", "small", "pass"],
        ["HumanEval/1", "large", "fail"],
        ["HumanEval/2", "small", "pass"],
    ]
    assert "pass@1: 2 of 3 (66.7%)" in passing.out
    assert "answered by: small 2, large 1" in passing.out
    assert "escalated: 1 of 3" in passing.out
    assert passing.code == 0
    assert failing.code == 1
    assert failing.err.endswith("error: 2 tasks passed, at least 3 were demanded\n")
    assert {request["plan"] for request in server.requests[:3]} == {"p"}
    assert all("plan" not in request for request in server.requests[3:])


PROGRAM = Path(sys.prefix) / "bin" / "codecascade"


def test_the_installed_program_speaks(tmp_path: Path) -> None:
    done = subprocess.run([PROGRAM, "complete", "--prompt-file", tmp_path / "no"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: the prompt file {tmp_path / 'no'} cannot be read: No such file or directory\n"


def piped(content: bytes, *arguments: str) -> Run:
    """`complete` with a prompt from a pipe."""
    command = [str(PROGRAM), "complete", "--prompt-file", "-", *arguments]
    done = subprocess.run(command, input=content, capture_output=True, check=False)
    return Run(done.returncode, done.stdout.decode(), done.stderr.decode())


def test_complete_reads_standard_input() -> None:
    prompt = 'def f():\n    """grüßt"""\n'
    with serving(lambda _: Answer(CODE, trace=ESCALATED)) as server:
        run = piped(prompt.encode(), "--url", server.address)
    assert (run.code, run.out) == (0, CODE), run.err
    assert server.requests == [{"prompt": prompt, "seed": 0, "return_trace": True}]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "standard input is empty"),
        (b" \n", "standard input is empty"),
        (b"x = \xff", "standard input is not UTF-8 (at byte 4)"),
    ],
)
def test_standard_input_without_a_prompt_is_one_sentence_and_exit_code_2(content: bytes, sentence: str) -> None:
    run = piped(content)
    assert (run.code, run.out, run.err) == (2, "", f"error: {sentence}\n")


COMMANDS = cast(TyperGroup, typer.main.get_command(cli.app)).commands


def shown_help(*arguments: str) -> str:
    """Help of the installed program, without the blanks that wrap its lines."""
    return "".join(subprocess.run([PROGRAM, *arguments, "--help"], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"plan-gpus"}))  # its help is the planner's
def test_help_shows_every_word_of_its_texts(name: str) -> None:
    command, shown = COMMANDS[name], shown_help(name)
    texts = [command.help, *(getattr(parameter, "help", None) for parameter in command.params)]
    assert [text for text in texts if text and "".join(text.split()) not in shown] == []


def test_help_lists_every_command_with_a_whole_sentence() -> None:
    shown = shown_help()
    for name, command in COMMANDS.items():
        assert "".join(f"{name} {str(command.help).partition('. ')[0]}".split()).removesuffix(".") in shown
    assert "..." not in shown.partition("Commands:")[2]
