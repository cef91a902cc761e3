"""What a tier or the sandbox answers outside of its contract makes it fail: nothing of it is read or billed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from codecascade.errors import SandboxUnavailable, TierUnavailable
from codecascade.tiers.contract import OUTPUTS, GenerateRequest, Generation, Tensor, read_generation, response_arrays
from codecascade.triton.sandbox_contract import matrix_arrays, read_matrix
from codecascade.types import LogProbs, Sample, VerdictMatrix
from numpy.typing import NDArray

REQUEST = GenerateRequest("small", "def f():", (), max_tokens=100, temperature=0.8, top_p=0.95, seed=1, num_return_sequences=2)
SAMPLES = (
    Sample("a\nb", 5, "stop", (2, 5), "\n\n", log_probs=LogProbs(-2.0, -1.5, 5)),
    Sample("é", 3, "length", (3,), log_probs=LogProbs(-0.5, -0.25, 3)),
)
GENERATION = Generation(SAMPLES, prompt_tokens=4)
GOOD = response_arrays(GENERATION)
OTHER_TYPES = (np.array([b"2", b"3"], np.object_), np.array([2.0, 3.0]), np.array([2, 3], np.int64), np.array([True, False]))


def wrong_values(output: Tensor) -> dict[str, list[Any]]:
    if output.datatype == "BYTES":
        return {"not UTF-8": [b"\xff", b"a"], "no bytes": [1, b"a"], "half a character": ["é".encode()[:1], b"a"]}
    if output.datatype == "INT32":
        return {"negative": [-1, 2], "absurd": [2**31 - 1, 2], "very negative": [-(2**31), 2]}
    return {"not a number": [float("nan"), -1], "infinite": [-float("inf"), -1], "positive": [7.0, -1], "absurd": [-1e30, -1]}


def malformed() -> Iterator[Any]:
    """Every output of the contract, malformed in each way that its type can be."""
    for output in OUTPUTS:
        name, good = output.name, GOOD[output.name]
        spoilt = {"too many": np.concatenate([good, good]), "too few": good[:-1], "none": None}
        spoilt |= {f"of type {array.dtype}": array[: good.size] for array in OTHER_TYPES if array.dtype != good.dtype}
        for way, values in wrong_values(output).items():
            spoilt[way] = np.array([*values, *values][: good.size], good.dtype)
        for way, array in spoilt.items():
            yield pytest.param({**GOOD, name: array}, name, id=f"{name}: {way}")
        yield pytest.param({key: array for key, array in GOOD.items() if key != name}, name, id=f"{name}: absent")
    yield pytest.param(
        {**GOOD, "finish_reason": np.array([b"stop", b"crash"], np.object_)}, "finish_reason", id="finish_reason: unknown"
    )


ABSENT_IS_UNKNOWN = {"line_tokens", "stop_word"}


@pytest.mark.parametrize(("arrays", "name"), list(malformed()))
def test_every_malformed_output_of_a_tier_makes_the_tier_fail(arrays: dict[str, NDArray[Any]], name: str) -> None:
    if name not in arrays and name in ABSENT_IS_UNKNOWN:
        assert [sample.text for sample in read_generation(REQUEST, arrays).samples] == ["a\nb", "é"]
        return
    with pytest.raises(TierUnavailable) as failed:
        read_generation(REQUEST, arrays)
    assert str(failed.value).startswith("tier small: its answer is malformed: ")
    assert name in str(failed.value)


def test_a_sound_answer_is_read_as_it_was_written() -> None:
    assert read_generation(REQUEST, GOOD) == GENERATION


def test_log_probabilities_are_there_together_or_unknown() -> None:
    without = {name: array for name, array in GOOD.items() if "log_prob" not in name}
    assert [sample.log_probs for sample in read_generation(REQUEST, without).samples] == [None, None]


MATRIX = VerdictMatrix(np.array([[0, 1], [2, 3], [0, 0]], np.int8), np.array([0.5, 0.0, 1.25]))
SOUND = matrix_arrays(MATRIX)
SPOILT_MATRICES: dict[str, dict[str, Any]] = {
    "verdicts of another shape": {"verdicts": SOUND["verdicts"].T},
    "verdicts in one row": {"verdicts": SOUND["verdicts"].ravel()},
    "verdicts of another type": {"verdicts": SOUND["verdicts"].astype(np.int32)},
    "verdicts in bytes": {"verdicts": SOUND["verdicts"].astype(np.object_)},
    "negative verdicts": {"verdicts": -SOUND["verdicts"]},
    "verdicts that there are none of": {"verdicts": SOUND["verdicts"] + np.int8(1)},
    "no verdicts": {"verdicts": None},
    "too few times": {"cpu_s": SOUND["cpu_s"][:2]},
    "times of another type": {"cpu_s": SOUND["cpu_s"].astype(np.float32)},
    "negative times": {"cpu_s": -SOUND["cpu_s"]},
    "times that are no numbers": {"cpu_s": SOUND["cpu_s"] * np.nan},
    "endless times": {"cpu_s": SOUND["cpu_s"] + np.inf},
    "no times": {"cpu_s": None},
}


@pytest.mark.parametrize("case", SPOILT_MATRICES)
def test_every_malformed_output_of_the_sandbox_makes_it_fail(case: str) -> None:
    (name,) = SPOILT_MATRICES[case]
    with pytest.raises(SandboxUnavailable, match=f"it gave (no )?{name}"):
        read_matrix({**SOUND, **SPOILT_MATRICES[case]}, (3, 2))
    with pytest.raises(SandboxUnavailable, match=f"it gave no {name}"):
        read_matrix({key: array for key, array in SOUND.items() if key != name}, (3, 2))


def test_a_sound_matrix_is_read_as_it_was_written() -> None:
    read = read_matrix(SOUND, (3, 2))
    assert read.verdicts.tolist() == MATRIX.verdicts.tolist()
    assert read.cpu_s.tolist() == MATRIX.cpu_s.tolist()
