"""Recordings on disk (docs/recording-format.md): a manifest and Parquet parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from codecascade.types import LogProbs, Verdict, VerdictMatrix
from numpy.typing import NDArray

from codecascade_client.errors import RecordingError, reason
from codecascade_client.files import write_whole
from codecascade_client.recording import parquet as parts
from codecascade_client.recording.recording import (
    ORDINARY,
    Draw,
    Judged,
    JudgedGiven,
    JudgedWithin,
    PublishedRecording,
    PublishedStep,
    RecordedSample,
    Recording,
    RecordingManifest,
    SampleRecording,
    StepOption,
    Unit,
)

FORMAT = 1
MANIFEST = "manifest.json"
_UNIT = [("tier", pa.string()), ("task", pa.string()), ("run", pa.int16())]
_WITHIN = pa.field("within", pa.struct([(name, pa.float64()) for name in asdict(ORDINARY)]), metadata=parts.LATER)
_LOG_PROBS = pa.struct([("total", pa.float64()), ("lowest", pa.float64()), ("tokens", pa.int32())])
SAMPLES = pa.schema(
    [
        *_UNIT,
        ("asked_lines", pa.int16()),
        ("sample", pa.int16()),
        ("text", pa.string()),
        ("completion_tokens", pa.int32()),
        ("line_tokens", pa.list_(pa.int32())),
        ("prompt_tokens", pa.int32()),
        ("seed", pa.uint64()),
        ("temperature", pa.float64()),
        ("finish_reason", pa.string()),
        ("latency_ms", pa.float64()),
        pa.field("stop_word", pa.string(), metadata=parts.LATER),
        pa.field("continued_prompt_tokens", pa.int32(), metadata=parts.LATER),
        pa.field("log_probs", _LOG_PROBS, metadata=parts.LATER),
    ]
)
VERDICTS = pa.schema(
    [
        *_UNIT,
        ("asked_lines", pa.int16()),
        ("lines", pa.list_(pa.string())),
        ("line_samples", pa.list_(pa.int16())),
        ("line_numbers", pa.list_(pa.int16())),
        ("verdicts", pa.binary()),
        ("cpu_s", pa.list_(pa.float64())),
        ("sources_sha256", pa.string()),
        _WITHIN,
    ]
)
TRUTH = pa.schema(
    [
        *_UNIT,
        ("verdicts", pa.binary()),
        ("sources_sha256", pa.string()),
        pa.field("cut", pa.binary(), metadata=parts.LATER),
        pa.field("broken", pa.binary(), metadata=parts.LATER),
        _WITHIN,
    ]
)
GIVEN = pa.schema(
    [
        *_UNIT,
        ("lines", pa.list_(pa.string())),
        ("verdicts", pa.binary()),
        ("cpu_s", pa.list_(pa.float64())),
        ("sources_sha256", pa.string()),
        _WITHIN,
    ]
)
STAGES = pa.schema(
    [
        *_UNIT,
        *((name, pa.int16()) for name in ("k", "test_lines", "n_s", "n_t", "pairs")),
        ("completion_tokens", pa.int32()),
        ("correct", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True)
class Truth:
    """The solutions of a unit against the benchmark's own tests."""

    verdicts: NDArray[np.int8]  # (solutions,) of Verdict
    sources_sha256: str
    cut: tuple[bool, ...] | None  # (solutions,) whether the token limit ended it; None: not known, in older recordings
    broken: tuple[bool, ...] | None = None  # (solutions,) whether the text holds no program; None: not known, in older recordings
    within: JudgedWithin = ORDINARY


@dataclass(frozen=True, slots=True)
class RecordingFolder:
    """A recording on disk."""

    path: Path
    manifest: RecordingManifest
    owner: str  # marks the parts of this recording: a hash of its manifest

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold it for writing, and merge its small parts at the end. Raises RecordingError if another process holds it."""
        with parts.only_writer(self.path):
            yield
            for table, schema in (("samples", SAMPLES), ("verdicts", VERDICTS), ("truth", TRUTH), ("given", GIVEN)):
                parts.merge(self.path, table, schema, self.owner)

    def recorded_units(self) -> set[Unit]:
        """The units that have been answered."""
        rows = parts.read_rows(self.path, "samples", SAMPLES, self.owner, columns=("tier", "task", "run"))
        return {_unit(row) for row in rows}

    def draws(self) -> dict[Unit, Draw]:
        rows = {
            (_unit(row), row["asked_lines"], row["sample"]): row
            for row in parts.read_rows(self.path, "samples", SAMPLES, self.owner)
        }
        samples: dict[Unit, dict[int, list[RecordedSample]]] = {}
        for (unit, asked_lines, _), row in sorted(rows.items(), key=lambda item: item[0][1:]):
            samples.setdefault(unit, {}).setdefault(asked_lines, []).append(_sample(row))
        return {
            unit: Draw(tuple(by_lines.pop(0, ())), {lines: tuple(tests) for lines, tests in by_lines.items()})
            for unit, by_lines in samples.items()
        }

    def judged(self) -> dict[tuple[Unit, int], Judged]:
        rows = parts.read_rows(self.path, "verdicts", VERDICTS, self.owner)
        return {(_unit(row), row["asked_lines"]): _judged(row) for row in rows}

    def truth(self) -> dict[Unit, Truth]:
        rows = parts.read_rows(self.path, "truth", TRUTH, self.owner)
        return {_unit(row): _truth(row) for row in rows}

    def given(self) -> dict[Unit, JudgedGiven]:
        rows = parts.read_rows(self.path, "given", GIVEN, self.owner)
        return {_unit(row): JudgedGiven(_matrix(row), tuple(row["lines"]), row["sources_sha256"], _within(row)) for row in rows}

    def judged_within(self) -> set[JudgedWithin]:
        """The limits of all verdicts."""
        return {row.within for table in (self.judged(), self.truth(), self.given()) for row in table.values()}

    def add_draws(self, draws: Mapping[Unit, Draw]) -> None:
        rows = [
            {**asdict(unit), **asdict(sample), "sample": index}
            for unit, draw in draws.items()
            for samples in (draw.solutions, *draw.tests.values())
            for index, sample in enumerate(samples)
        ]
        parts.append(self.path, "samples", SAMPLES, self.owner, rows)

    def add_judged(self, judged: Mapping[tuple[Unit, int], Judged]) -> None:
        rows = [
            {
                **asdict(unit),
                "asked_lines": asked_lines,
                "lines": judgement.lines,
                "line_samples": judgement.line_samples,
                "line_numbers": judgement.line_numbers,
                "verdicts": judgement.matrix.verdicts.tobytes(),
                "cpu_s": judgement.matrix.cpu_s.tolist(),
                "sources_sha256": judgement.sources_sha256,
                "within": asdict(judgement.within),
            }
            for (unit, asked_lines), judgement in judged.items()
        ]
        parts.append(self.path, "verdicts", VERDICTS, self.owner, rows)

    def add_truth(self, truth: Mapping[Unit, Truth]) -> None:
        rows = [
            {
                **asdict(unit),
                "verdicts": solutions.verdicts.tobytes(),
                "sources_sha256": solutions.sources_sha256,
                "cut": None if solutions.cut is None else bytes(solutions.cut),
                "broken": None if solutions.broken is None else bytes(solutions.broken),
                "within": asdict(solutions.within),
            }
            for unit, solutions in truth.items()
        ]
        parts.append(self.path, "truth", TRUTH, self.owner, rows)

    def add_given(self, given: Mapping[Unit, JudgedGiven]) -> None:
        rows = [
            {
                **asdict(unit),
                "lines": judgement.lines,
                "verdicts": judgement.matrix.verdicts.tobytes(),
                "cpu_s": judgement.matrix.cpu_s.tolist(),
                "sources_sha256": judgement.sources_sha256,
                "within": asdict(judgement.within),
            }
            for unit, judgement in given.items()
        ]
        parts.append(self.path, "given", GIVEN, self.owner, rows)

    def add_stages(self, stages: Mapping[tuple[Unit, StepOption], PublishedStep]) -> None:
        rows = [
            {**asdict(unit), "k": option.k, "test_lines": option.lines_per_sample, **asdict(step)}
            for (unit, option), step in stages.items()
        ]
        parts.append(self.path, "stages", STAGES, self.owner, rows)

    def load(self) -> Recording:
        """The whole recording, for replay.

        Raises RecordingError if parts are damaged or belong to another recording, or if verdicts are within different limits.
        """
        stages = parts.read_rows(self.path, "stages", STAGES, self.owner)
        if stages:
            return PublishedRecording(self.manifest, dict(_published_step(row) for row in stages))
        manifest, truths = self._judged_manifest(), self.truth()
        correct = {unit: np.equal(truth.verdicts, Verdict.PASS) for unit, truth in truths.items()}
        cut = {unit: truth.cut for unit, truth in truths.items() if truth.cut is not None}
        broken = {unit: truth.broken for unit, truth in truths.items() if truth.broken is not None}
        return SampleRecording(manifest, self.draws(), self.judged(), correct, cut, broken, self.given())

    def _judged_manifest(self) -> RecordingManifest:
        """The manifest; its provenance has the limits of the verdicts, unless they are a cascade's."""
        within = self.judged_within()
        if len(within) > 1:
            raise RecordingError(
                f"{self.path} was judged within different limits ({'; '.join(sorted(map(str, within)))}): "
                "`codecascade verdicts` judges it within the same"
            )
        if within <= {ORDINARY}:
            return self.manifest
        return replace(self.manifest, provenance={**self.manifest.provenance, "judged_within": asdict(*within)})


def create_recording(path: Path, manifest: RecordingManifest) -> RecordingFolder:
    """Make a new, empty recording. Raises RecordingError if the folder is not empty."""
    if path.exists() and any(path.iterdir()):
        raise RecordingError(f"{path} is not empty, a new recording needs an empty or a new folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordingError(f"{path} cannot be made: {error.strerror}") from error
    content = {"format": FORMAT, **asdict(manifest)}
    write_whole(path / MANIFEST, json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n")
    return open_recording(path)


def open_recording(path: Path) -> RecordingFolder:
    """Raises RecordingError for anything but a recording of this format."""
    manifest_path = path / MANIFEST
    try:
        content = manifest_path.read_bytes()
        fields = json.loads(content)
        if fields["format"] != FORMAT:
            raise RecordingError(f"{manifest_path} has format {fields['format']!r}, this version reads format {FORMAT}")
        needed = {name: fields[name] for name in ("family", "dataset", "tiers", "settings", "provenance")}
        manifest = RecordingManifest(**needed, sandbox_price_per_cpu_s=fields.get("sandbox_price_per_cpu_s", 0.0))
    except FileNotFoundError:
        raise RecordingError(f"{path} is not a recording: it has no {MANIFEST}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordingError(f"{manifest_path} cannot be read: {reason(error)}") from error
    return RecordingFolder(path, manifest, hashlib.sha256(content).hexdigest()[:16])


def resume_recording(path: Path, manifest: RecordingManifest) -> RecordingFolder:
    """The recording that was begun in the folder, or a new one. Raises RecordingError that names what differs.

    An older manifest may lack keys of a tier: it had no prompt price then, and its weights are unknown.
    """
    if not (path / MANIFEST).exists():
        return create_recording(path, manifest)
    folder = open_recording(path)
    for name, value in asdict(manifest).items():
        begun = getattr(folder.manifest, name)
        if name == "tiers":
            begun = {tier: {**_defaults(value.get(tier, {})), **known} for tier, known in begun.items()}
        if name != "provenance" and begun != value:
            raise RecordingError(f"recording {path} was begun with different {name}: {_difference(begun, value)}")
    return folder


def _defaults(tier: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the keys that an older manifest may lack. tier: what the new manifest says of the tier."""
    defaults = {"prompt_price_per_mtok": 0.0, "weights_sha256": tier.get("weights_sha256"), "fim": tier.get("fim")}
    return {key: value for key, value in defaults.items() if key in tier}


def _difference(begun: Any, value: Any) -> str:
    if isinstance(begun, dict) and isinstance(value, dict):
        for key in [*begun, *value]:
            if begun.get(key) != value.get(key):
                return f"{key}: {_difference(begun.get(key), value.get(key))}"
    return f"{begun!r}, now {value!r}"


def _unit(row: Mapping[str, Any]) -> Unit:
    return Unit(row["tier"], row["task"], row["run"])


def _sample(row: Mapping[str, Any]) -> RecordedSample:
    fields = {name: row[name] for name in SAMPLES.names if name not in ("tier", "task", "run", "sample")}
    known = {name: value for name, value in fields.items() if value is not None}
    log_probs = row["log_probs"] and LogProbs(**row["log_probs"])
    return RecordedSample(**{**known, "line_tokens": tuple(row["line_tokens"]), "log_probs": log_probs})


def _flags(flags: bytes | None) -> tuple[bool, ...] | None:
    return None if flags is None else tuple(map(bool, flags))


def _matrix(row: Mapping[str, Any]) -> VerdictMatrix:
    verdicts = np.frombuffer(row["verdicts"], np.int8).reshape(len(row["cpu_s"]), len(row["lines"]))
    return VerdictMatrix(verdicts, np.array(row["cpu_s"], np.float64))


def _judged(row: Mapping[str, Any]) -> Judged:
    return Judged(
        matrix=_matrix(row),
        lines=tuple(row["lines"]),
        line_samples=tuple(row["line_samples"]),
        line_numbers=tuple(row["line_numbers"]),
        sources_sha256=row["sources_sha256"],
        within=_within(row),
    )


def _truth(row: Mapping[str, Any]) -> Truth:
    verdicts = np.frombuffer(row["verdicts"], np.int8)
    return Truth(verdicts, row["sources_sha256"], _flags(row["cut"]), _flags(row["broken"]), _within(row))


def _within(row: Mapping[str, Any]) -> JudgedWithin:
    return JudgedWithin(**row["within"] or {})


def _published_step(row: Mapping[str, Any]) -> tuple[tuple[Unit, StepOption], PublishedStep]:
    fields = {name: row[name] for name in ("n_s", "n_t", "pairs", "completion_tokens", "correct")}
    return (_unit(row), StepOption(row["tier"], row["k"], row["test_lines"])), PublishedStep(**fields)
