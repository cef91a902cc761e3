"""What one candidate may use."""

from __future__ import annotations

from dataclasses import dataclass

from codecascade.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one candidate's child. Raises InvalidRequest for values that cannot be set."""

    line_s: float = 1.0
    """CPU seconds for the candidate's own code and for each test line."""
    cpu_s: float = 5.0
    """CPU seconds for a candidate with all its lines."""
    wall_stretch: float = 4.0
    """Wall seconds per CPU second that it may take, for one that waits, or gets less than its share of a busy machine."""
    memory_bytes: int = 512 << 20
    """Address space."""
    file_bytes: int = 8 << 20
    """Size of the largest file, and of all files in the scratch folder together."""
    open_files: int = 32
    """File descriptors."""
    scratch_files: int = 64
    """Files and folders in the scratch folder."""

    def __post_init__(self) -> None:
        _within("line_s", self.line_s, 0.05, 3600)
        _within("cpu_s", self.cpu_s, self.line_s, 36_000)
        _within("wall_stretch", self.wall_stretch, 1, 1000)
        _within("memory_bytes", self.memory_bytes, 128 << 20, 1 << 40)
        _within("file_bytes", self.file_bytes, 4096, 1 << 40)
        _within("open_files", self.open_files, 24, 1024)
        _within("scratch_files", self.scratch_files, 2, 1 << 20)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not isinstance(value, (int, float)) or not low <= value <= high:
        raise InvalidRequest(f"limit {name} is {value!r}, must be {low} to {high}")
