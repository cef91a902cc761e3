"""Keeps one Triton server alive, and says truthfully whether it is: `python -m codecascade.supervision -- tritonserver …`.

Triton does not notice that the process of a Python model (its stub) has died: it stays ready, requests under way are never
answered, and new ones fail after a second each (triton-inference-server/server, issues 7230 and 8604). So the supervisor starts
the server, watches the process of every model, asks every Python model a question that costs nothing, and starts the whole
server again when one of them is gone. Only the end of the server answers the requests under way: their connections close.

Why not load the dead model again, through Triton's model control? Measured with Triton 2.51: requests under way stay unanswered;
each nested call to the dead model holds one of the calling model's threads in Triton for good, so that after two deaths under
200 calls the cascade answers nobody; and model control lets every client of the port upload code.

It needs nothing but the standard library.
"""
