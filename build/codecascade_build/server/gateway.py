"""Starts the HTTP gateway beside a Triton server, and stops it."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Mapping

from codecascade_build.errors import BuildError
from codecascade_build.server.process import LOOPBACK, RunningServer, answers

_READY_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 15
_POLL_S = 0.1


@contextlib.contextmanager
def gateway(port: int, server: RunningServer, environ: Mapping[str, str]) -> Iterator[str | None]:
    """Yields its address when it answers; None for port 0: there is none.

    environ: with CODECASCADE_URL. Raises BuildError if it ends at once: what it said is on stderr.
    """
    if not port:
        yield None
        return
    argv = ["setpriv", "--pdeathsig", "TERM", "codecascade", "gateway", "--port", str(port)]
    environ = {**environ, "CODECASCADE_GATEWAY_HEALTH_URL": f"http://{server.health}/health/ready"}
    process = subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait_until_ready(process, port)
        yield f"http://{LOOPBACK}:{port}"
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT_S)
        process.kill()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while not answers(f"http://{LOOPBACK}:{port}/healthz"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise BuildError(f"The gateway did not start on port {port}: see above, or leave it out with GATEWAY_PORT=0.")
        time.sleep(_POLL_S)
