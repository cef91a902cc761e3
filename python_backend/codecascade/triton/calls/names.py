"""What models that call each other say besides tensors: parameters (names of calls, a token), and how a refusal begins.

Triton does not cancel nested calls, so a calling model names each call. To cancel, it sends a second call that gives up the names
of one or more. Names must be unguessable: whoever knows one can cancel the call.

Tiers and `sandbox` share Triton's ports with `cascade`, and Triton cannot close a model to clients. So they answer only requests
with the token, which whoever starts the server draws (CODECASCADE_INNER_TOKEN). docs/security.md says what that protects.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from typing import Any

CALL = "call"
GIVE_UP = "give_up"
"""Names, separated by commas."""
ALIVE = "alive"
"""The question of the supervisor: every model answers it at once, with no output, and does nothing."""
TOKEN = "token"
TOKEN_VARIABLE = "CODECASCADE_INNER_TOKEN"
_TOKEN = os.environ.get(TOKEN_VARIABLE, "")
CREDENTIALS = {TOKEN: _TOKEN} if _TOKEN else {}
"""The parameters of every call to a tier or `sandbox`."""
REFUSAL = "invalid request: "
"""How the sentence of an InvalidRequest starts when a model answers another one. Triton makes every nested error INTERNAL, so
the code alone cannot tell a refusal from a failure."""


def is_trusted(parameters: Mapping[str, Any]) -> bool:
    """Whether a request has the token. A server without one trusts everybody who reaches it."""
    return hmac.compare_digest(str(parameters.get(TOKEN, "")).encode(), _TOKEN.encode()) or not _TOKEN
