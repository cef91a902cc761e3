"""When a request arrived at its model: before it waited for the model's loop."""

from __future__ import annotations

import contextvars
import time

ARRIVED_S: contextvars.ContextVar[float] = contextvars.ContextVar("arrived_s")
"""On the clock of time.monotonic. Set in whatever works on a request."""


def context_of_now() -> contextvars.Context:
    """The context of requests that arrive now."""
    context = contextvars.copy_context()
    context.run(ARRIVED_S.set, time.monotonic())
    return context
