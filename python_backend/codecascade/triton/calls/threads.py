"""How the threads that nested calls hold are shared out.

Every nested call under way holds one of the threads that Triton gives each Python model, here and inside Triton, until it is
answered; a call to a process that has died, for good. So every model that is called gets threads of its own, and a few are kept
for messages that end calls: these never wait for a call.
"""

from __future__ import annotations

from collections.abc import Mapping

from codecascade.errors import DeploymentError

NESTED_CALLS = 1280
"""`thread-pool-size` of every server's Python backend. Triton starts as many threads for each Python model."""
_KEPT = 64
FOR_CALLS = NESTED_CALLS - _KEPT
"""Calls that one model may have under way, to all models that it calls together."""


def shares(max_in_flight: Mapping[str, int | None]) -> dict[str, tuple[int, int]]:
    """Per called model: the calls that may be under way, and its threads. None: as many as there is room for.

    Threads above the calls take the place of those that a dead process never gives back. Raises DeploymentError.
    """
    fixed = sum(limit or 0 for limit in max_in_flight.values())
    free = [name for name, limit in max_in_flight.items() if limit is None]
    part = (FOR_CALLS - fixed) // max(1, len(free or max_in_flight))
    if part < bool(free):
        raise DeploymentError(
            f"max_in_flight of the tiers of this server and sandbox_max_in_flight are {fixed} together, must be {FOR_CALLS} or "
            f"fewer, with room for {len(free)} tiers without one"
        )
    return {name: (limit or part, (limit + (0 if free else part)) if limit else part) for name, limit in max_in_flight.items()}
