"""What one candidate may use."""

from __future__ import annotations

from dataclasses import dataclass

from codecascade.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one candidate's child. Raises InvalidRequest for values that cannot be set.

    line_s: CPU seconds for the candidate's own code and for each test line; wall time may be up to 4 × that.
    cpu_s: CPU seconds for a candidate with all its lines. memory_bytes: address space. file_bytes: largest file, and
    all files together in the scratch folder. open_files: file descriptors. scratch_files: files and folders.
    """

    line_s: float = 1.0
    cpu_s: float = 5.0
    memory_bytes: int = 512 << 20
    file_bytes: int = 8 << 20
    open_files: int = 32
    scratch_files: int = 64

    def __post_init__(self) -> None:
        _within("line_s", self.line_s, 0.05, 3600)
        _within("cpu_s", self.cpu_s, self.line_s, 36_000)
        _within("memory_bytes", self.memory_bytes, 128 << 20, 1 << 40)
        _within("file_bytes", self.file_bytes, 4096, 1 << 40)
        _within("open_files", self.open_files, 24, 1024)
        _within("scratch_files", self.scratch_files, 2, 1 << 20)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not isinstance(value, (int, float)) or not low <= value <= high:
        raise InvalidRequest(f"limit {name} is {value!r}, allowed are {low} to {high}")
