"""Steps are run once, again when what they depend on changes, and leave nothing that looks whole when they are killed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from codecascade_build.engine.runner import Runner, check_disk, contents, exclusively, stamp_path
from codecascade_build.engine.steps import IMAGE, Places, Step
from codecascade_build.engine.toolchain import Toolchain, check_quantizer, count_gpus, toolchain
from codecascade_build.errors import BuildError
from codecascade_build.gpus import gpu
from codecascade_build.progress import Progress
from rich.console import Console

TOOLS = Toolchain({"tensorrt_llm": "1.2.1"}, sm=90, gpu_bytes=80_000_000_000)


class Steps:
    """Two steps, a copy and a copy of the copy, that note each time that they run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source.txt"
        self.source.write_text("weights")
        self.ran = folder / "ran.txt"
        self.said = io.StringIO()
        self.first = self.step("first", (self.source,), folder / "made" / "first")
        self.second = self.step("second", self.first.outputs, folder / "made" / "second")

    def step(self, name: str, inputs: tuple[Path, ...], output: Path, program: str | None = None) -> Step:
        program = program or (
            f"import pathlib, sys\n"
            f"print('copying', flush=True)\n"
            f"open({str(self.ran)!r}, 'a').write({name + ' '!r})\n"
            f"source = pathlib.Path({str(inputs[0])!r})\n"
            f"source = source / 'data' if source.is_dir() else source\n"
            f"target = pathlib.Path({str(output)!r})\n"
            f"target.mkdir(parents=True)\n"  # fails if something older is still there
            f"(target / 'data').write_text(source.read_text() + {'>' + name!r})\n"
        )
        return Step("tiny", name, (sys.executable, "-c", program), inputs, (output,), "gpu")

    def run(self, *steps: Step, tools: Toolchain = TOOLS) -> None:
        Runner(tools, Progress(Console(file=self.said)), self.folder / "log").run(steps or (self.first, self.second))

    def runs(self) -> list[str]:
        """What ran since the last time that this was asked."""
        words = self.ran.read_text().split() if self.ran.exists() else []
        self.ran.unlink(missing_ok=True)
        return words


@pytest.fixture
def chain(tmp_path: Path) -> Steps:
    return Steps(tmp_path)


@pytest.fixture
def done(chain: Steps) -> Steps:
    """Both steps have run."""
    chain.run()
    assert chain.runs() == ["first", "second"]
    return chain


def test_a_changed_input_runs_what_depends_on_it_and_a_touched_one_nothing(done: Steps) -> None:
    assert (done.folder / "made" / "second" / "data").read_text() == "weights>first>second"
    os.utime(done.source, (1, 1))
    os.utime(done.folder / "made" / "first" / "data", (1, 1))
    done.run()
    assert done.runs() == []
    assert "2 of 2: second of tiny is done." in done.said.getvalue()
    done.source.write_text("other")
    done.run()
    assert done.runs() == ["first", "second"]
    assert (done.folder / "made" / "second" / "data").read_text() == "other>first>second"


def test_an_output_that_was_changed_by_hand_is_made_again(done: Steps) -> None:
    (done.folder / "made" / "second" / "data").write_text("broken")
    done.run()
    assert done.runs() == ["second"]
    (done.folder / "made" / "first" / "data").unlink()
    done.run()
    assert done.runs() == ["first"], "it makes the same again, so the second step has nothing to do"


def test_another_command_runs_again(done: Steps) -> None:
    done.run(done.first, replace(done.second, argv=(*done.second.argv, "--more")))
    assert done.runs() == ["second"]


def test_a_step_depends_on_no_more_of_the_machine_than_it_says(chain: Steps) -> None:
    here, image = replace(chain.first, where="here"), replace(chain.first, name="other", where="image", argv=chain.second.argv)
    image = replace(image, outputs=chain.second.outputs, inputs=())
    gpu = chain.step("gpu", (chain.source,), chain.folder / "made" / "gpu")
    chain.run(here, image, gpu)
    chain.runs()
    chain.run(here, image, gpu, tools=replace(TOOLS, sm=80))
    assert chain.runs() == ["gpu"]
    chain.run(here, image, gpu, tools=replace(TOOLS, sm=80, versions={}))
    assert chain.runs() == ["second", "gpu"], "the step of the image runs the second program"


def test_a_failed_step_is_named_with_its_last_words_and_its_log(chain: Steps) -> None:
    wrong = chain.step(
        "wrong", (chain.source,), chain.folder / "made" / "wrong", "print('one', flush=True); raise SystemExit('no such GPU.')"
    )
    with pytest.raises(BuildError) as raised:
        chain.run(chain.first, wrong)
    log = chain.folder / "log" / "tiny-wrong.log"
    assert str(raised.value) == f"The wrong of tiny failed with exit code 1 (no such GPU); its log is {log}."
    assert "one\nno such GPU.\n" in log.read_text()
    assert log.read_text().startswith(f"$ {sys.executable} -c ")
    assert chain.runs() == ["first"]
    assert not stamp_path(wrong.outputs[0]).exists()


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (
            (sys.executable, "-c", "import os; raise OSError(28, os.strerror(28))"),
            r"^The first of tiny stopped because the disk of .* is full; make room and run it again; its log is",
        ),
        (
            (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
            r"^The first of tiny was killed by SIGKILL, which a machine without memory left does; its log is",
        ),
        (("trtllm-build-x",), r"^The first of tiny could not start: trtllm-build-x: No such file"),
        ((sys.executable, "-c", ""), r"^The first of tiny ended well, but .*made/first is not there; its log is"),
    ],
    ids=["full disk", "killed", "no such program", "no output"],
)
def test_a_step_that_does_not_end_well_says_why(chain: Steps, argv: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(BuildError, match=sentence):
        chain.run(replace(chain.first, argv=argv))


def test_what_a_killed_step_left_is_not_taken_for_whole(done: Steps) -> None:
    program = f"import pathlib\ntarget = pathlib.Path({str(done.first.outputs[0])!r})\ntarget.mkdir(parents=True)\n" + (
        "(target / 'data').write_text('half')\nraise SystemExit(1)"
    )
    done.source.write_text("other")
    with pytest.raises(BuildError):
        done.run(replace(done.first, argv=(sys.executable, "-c", program)), done.second)
    assert not stamp_path(done.first.outputs[0]).exists()
    done.run()
    assert done.runs() == ["first", "second"]
    assert (done.folder / "made" / "second" / "data").read_text() == "other>first>second"


def test_a_manifest_goes_with_the_engine_that_it_is_about(chain: Steps) -> None:
    manifest = chain.folder / "made" / "codecascade.json"
    program = f"open({str(manifest)!r}, 'w').write('whole')"
    last = Step("tiny", "manifest", (sys.executable, "-c", program), chain.second.outputs, (manifest,), "here")
    chain.run(chain.first, chain.second, last)
    failing = replace(chain.second, argv=(sys.executable, "-c", "raise SystemExit(1)"))
    with pytest.raises(BuildError):
        chain.run(chain.first, failing, last)
    assert not manifest.exists()


def test_a_download_goes_on_with_what_is_there(chain: Steps) -> None:
    target = chain.folder / "made" / "download"
    program = f"import pathlib\ntarget = pathlib.Path({str(target)!r})\n" + (
        "target.mkdir(exist_ok=True)\nbefore = sorted(path.name for path in target.iterdir())\n"
        "(target / str(len(before))).write_text('part')\nraise SystemExit(0 if before else 1)"
    )
    step = replace(chain.step("download", (chain.source,), target, program), resumes=True)
    with pytest.raises(BuildError):
        chain.run(step)
    chain.run(step)
    assert sorted(path.name for path in target.iterdir()) == ["0", "1"]


def test_a_stamp_that_is_cut_counts_as_none(done: Steps) -> None:
    stamp = stamp_path(done.first.outputs[0])
    for text in (stamp.read_text()[:-20], "[]", '{"key": 1, "files": 3}'):
        stamp.write_text(text)
        done.run()
        assert done.runs() == ["first"]


def test_what_the_hub_s_client_notes_is_no_part_of_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".cache" / "huggingface").mkdir(parents=True)
    (tmp_path / ".cache" / "huggingface" / "note").write_text("x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "weights").write_text("y")
    assert list(contents(tmp_path)) == ["sub/weights"]
    with pytest.raises(BuildError, match=r"is not there or is empty; run `make engines` again\.$"):
        contents(tmp_path / "nothing")


def test_one_build_at_a_time(tmp_path: Path) -> None:
    taken = pytest.raises(BuildError, match=r"^Another `make engines` is building in .*; wait for it\.$")
    with exclusively(tmp_path), taken, exclusively(tmp_path):
        pass


def test_a_build_that_is_ended_takes_its_step_with_it(chain: Steps) -> None:
    """SIGTERM to the build ends the step's command: the pipe that both hold is closed when the last of them is gone."""
    target = chain.folder / "made" / "long"
    ready, alive = chain.folder / "ready", chain.folder / "alive"
    os.mkfifo(ready)
    os.mkfifo(alive)
    program = f"held = open({str(alive)!r}, 'w'); open({str(ready)!r}, 'w').write('go'); import signal; signal.pause()"
    build = (
        "import signal, sys\nfrom pathlib import Path\nfrom codecascade_build.engine.runner import Runner\n"
        "from codecascade_build.engine.toolchain import Toolchain\nfrom codecascade_build.engine.steps import Step\n"
        "from codecascade_build.progress import Progress\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"step = Step('tiny', 'long', ({sys.executable!r}, '-c', {program!r}), (), (Path({str(target)!r}),), 'gpu')\n"
        f"Runner(Toolchain({{}}, 90, 0), Progress(), Path({str(chain.folder / 'log')!r})).run([step])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", build], stderr=subprocess.PIPE)
    with alive.open() as end:
        assert ready.read_text() == "go"
        process.send_signal(signal.SIGTERM)
        assert end.read() == "", "the step's command is gone"
    process.communicate()
    assert process.returncode == 143
    assert not stamp_path(target).exists()


def test_a_disk_that_is_too_small_is_refused_before_anything_runs(chain: Steps) -> None:
    steps = [replace(chain.first, bytes=30_000_000_000), replace(chain.second, bytes=20_000_000_000)]
    with pytest.raises(BuildError) as raised:
        check_disk(steps, free=lambda path: 49_000_000_000)
    assert str(raised.value) == (
        f"About 50 GB are needed on the disk of {chain.folder}, and 49 GB are free; "
        "make room, build some tiers only (TIER=…), or set CODECASCADE_CACHE to a larger disk."
    )
    check_disk(steps, free=lambda path: 50_000_000_000)
    chain.first.outputs[0].mkdir(parents=True)
    check_disk(steps, free=lambda path: 20_000_000_000)


def image(listing: str = "9.0, 81559\n", version: str = "1.2.1", missing: Sequence[str] = ()) -> Callable[[Sequence[str]], str]:
    """A machine whose commands answer like this."""

    def run(argv: Sequence[str]) -> str:
        if argv[0] == "nvidia-smi":
            if not listing:
                raise FileNotFoundError(2, "No such file or directory", "nvidia-smi")
            return listing
        return json.dumps({"versions": {"tensorrt_llm": version, "tensorrt": "10.14.1.48"}, "missing": list(missing)})

    return run


DRY = "`make engines DRY_RUN=1` prints the commands without running them."


@pytest.mark.parametrize(
    ("machine", "sentence"),
    [
        (image(missing=["typer"]), "python3 cannot import typer, which build steps need: use the image of build/images/"),
        (image(version="1.1.0"), f"TensorRT-LLM 1.1.0 is installed here, and the recipes are for 1.2.1: use the image {IMAGE}."),
        (image(listing=""), f"nvidia-smi shows no GPU here .*; engines are built on the GPU they run on; {DRY}"),
        (
            image(listing="8.6, 24576\n8.6, 24576\n"),
            r"GPU=h100 is H100 SXM 80 GB \(SM 90\), and the GPUs here have SM 86, 86; "
            f"engines are built on the kind of GPU that they run on; {DRY}",
        ),
    ],
    ids=["no typer", "another version", "no GPU", "another GPU"],
)
def test_a_machine_that_cannot_build_is_refused_in_one_sentence(machine: Callable[[Sequence[str]], str], sentence: str) -> None:
    with pytest.raises(BuildError, match=f"^{sentence}"):
        toolchain(gpu("h100"), Places(), machine)


def test_a_machine_that_can_build_is_described() -> None:
    tools = toolchain(gpu("h100"), Places(), image(listing="9.0, 81559\n9.0, 81559\n"))
    assert tools == Toolchain({"tensorrt_llm": "1.2.1", "tensorrt": "10.14.1.48"}, 90, 2 * 81559 * 2**20)


def test_this_project_s_python_is_not_the_image_s() -> None:
    sentence = f"cannot import tensorrt_llm: engines are built inside the image {IMAGE} or one made from it; {DRY}"
    with pytest.raises(BuildError, match=sentence):
        toolchain(gpu("h100"), Places(python=sys.executable))
    with pytest.raises(BuildError, match=rf"^no-such-python does not run \(.*\); {DRY}"):
        toolchain(gpu("h100"), Places(python="no-such-python"))


def test_a_machine_without_nvidia_smi_has_no_gpus_to_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BuildError, match=r"^nvidia-smi shows no GPU here .*; say how many the server has: GPUS=…"):
        count_gpus()


def test_quantizing_what_the_gpus_cannot_hold_is_refused(chain: Steps, tmp_path: Path) -> None:
    script = tmp_path / "quantize.py"
    step = replace(chain.first, name="quantize", gpu_bytes=65_000_000_000)
    with pytest.raises(
        BuildError, match=r"^The quantize of tiny loads 65 GB of weights .* GPUs here have 48 GB together; run it"
    ):
        check_quantizer([step], Places(quantize=script), replace(TOOLS, gpu_bytes=48_000_000_000))
    with pytest.raises(
        BuildError, match=r"quantize.py is not there; name it with QUANTIZE=… \(some images have /app/tensorrt_llm/"
    ):
        check_quantizer([step], Places(quantize=script), TOOLS)
    script.write_text("")
    check_quantizer([step], Places(quantize=script), TOOLS)
