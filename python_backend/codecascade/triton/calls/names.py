"""Names of calls from model to model, as request parameters.

Triton does not cancel nested calls, so a calling model names each call. To cancel, it sends a second call that gives up the name.
Names must be unguessable: whoever knows one can cancel the call.
"""

CALL = "call"
GIVE_UP = "give_up"
