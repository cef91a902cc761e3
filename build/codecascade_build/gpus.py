"""The kinds of GPU that an engine can be built for. An engine runs on the kind that it was built on, and on no other."""

from __future__ import annotations

from dataclasses import dataclass

from codecascade_build.errors import BuildError

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Gpu:
    """One kind of GPU."""

    name: str
    title: str
    sm: int
    """The compute capability, 90 for 9.0."""
    memory_mib: int
    """The total that nvidia-smi shows."""

    @property
    def memory_bytes(self) -> int:
        return self.memory_mib * MIB


GPUS = {
    kind.name: kind
    for kind in (
        Gpu("h100", "H100 SXM 80 GB", sm=90, memory_mib=81_559),
        Gpu("a100", "A100 80 GB", sm=80, memory_mib=81_920),
        Gpu("l40s", "L40S 48 GB", sm=89, memory_mib=46_068),
        Gpu("rtx3090", "GeForce RTX 3090 24 GB", sm=86, memory_mib=24_576),
    )
}


def gpu(name: str) -> Gpu:
    """Raises BuildError, with the known kinds, for any other."""
    if name not in GPUS:
        raise BuildError(f"The GPU {name!r} is not a known kind; known are {', '.join(GPUS)}.")
    return GPUS[name]
