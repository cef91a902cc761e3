"""What models that call each other say besides tensors: names of calls as request parameters, and how a refusal begins.

Triton does not cancel nested calls, so a calling model names each call. To cancel, it sends a second call that gives up the names
of one or more. Names must be unguessable: whoever knows one can cancel the call.
"""

CALL = "call"
GIVE_UP = "give_up"
"""Names, separated by commas."""
REFUSAL = "invalid request: "
"""How the sentence of an InvalidRequest starts when a model answers another one. Triton makes every nested error INTERNAL, so
the code alone cannot tell a refusal from a failure."""
