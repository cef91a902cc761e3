"""How many threads nested calls have, and how these are shared out.

Every nested call holds one of the threads that Triton gives each Python model, until it is answered; a call to a process that
has died, for good. So every model that is called gets threads of its own, and a few are kept for messages that end calls: these
never wait for a call. Triton starts all of them at once, for each Python model. So they are as few as the limits need: 1,280
instead of 256 cost a request with three nested calls half a millisecond, and a machine has only so many.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from codecascade.deployment import Deployment, load_deployment
from codecascade.errors import DeploymentError
from codecascade.triton.sandbox_contract import MODEL

VARIABLE = "CODECASCADE_NESTED_CALLS"
"""Says how many there are: what Triton's `thread-pool-size` is."""
FEW = 256
KEPT = 32

Limits = Mapping[str, "int | None"]
"""By called model: calls at a time. None: an equal part of what the others leave."""


def pool_size(environ: Mapping[str, str], deployment: Path | None) -> int:
    """For Triton's `thread-pool-size`: what the environment says, else what the limits of the deployment need."""
    if environ.get(VARIABLE):
        return int(environ[VARIABLE])
    try:
        limits = limits_of(load_deployment(deployment)) if deployment else {}
    except DeploymentError:  # the cascade says so when it starts
        limits = {}
    return FEW * -(-(KEPT + sum(limit or 1 for limit in limits.values())) // FEW)


def limits_of(deployment: Deployment) -> Limits:
    """Of the models of a cascade's own server."""
    tiers = {name: tier.max_in_flight for name, tier in deployment.tiers.items() if tier.url is None}
    return {**tiers, MODEL: deployment.sandbox_max_in_flight}


def shares(limits: Limits, threads: int) -> dict[str, tuple[int, int]]:
    """By called model: the calls that may be under way, and its threads.

    Threads above the calls take the place of those that a dead process never gives back. Raises DeploymentError.
    """
    room, fixed = threads - KEPT, sum(limit or 0 for limit in limits.values())
    free = [name for name, limit in limits.items() if limit is None]
    part = (room - fixed) // max(1, len(free or limits))
    if part < bool(free):
        raise DeploymentError(
            f"max_in_flight of the server's own tiers and sandbox_max_in_flight are {fixed} together, must be {room - len(free)} "
            f"or fewer; {VARIABLE} makes room for more"
        )
    spare = 0 if free else part
    return {name: (part, part) if limit is None else (limit, limit + spare) for name, limit in limits.items()}
