"""python -m codecascade.supervision [options] -- COMMAND: run a Triton server, restart it when one of its processes is gone."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
from collections.abc import Sequence

from codecascade.supervision.bounds import Bounds
from codecascade.supervision.probes import answer_probes
from codecascade.supervision.questions import Triton
from codecascade.supervision.state import State
from codecascade.supervision.supervisor import Patience, Supervisor
from codecascade.triton.calls.names import TOKEN_VARIABLE

_PATIENCE = Patience()


def main() -> None:
    options = _options()
    os.environ.setdefault(TOKEN_VARIABLE, secrets.token_hex(16))  # set but empty: tiers and sandbox trust everybody
    try:
        code = asyncio.run(_supervise(options))
    except OSError as error:
        sys.exit(f"error: {error}")
    sys.exit(code if code >= 0 else 128 - code)  # a signal, as a shell tells it


async def _supervise(options: argparse.Namespace) -> int:
    state = State()
    answer_probes(state, options.address, options.port)
    bounds = Bounds(options.restarts, options.window_s)
    triton = Triton(http_address(options.command))
    patience = Patience(options.start_s, options.answer_s, options.hung_s, options.ask_s)
    return await Supervisor(options.command, triton, state, bounds, patience).run()


def http_address(command: Sequence[str]) -> str:
    """Where the server that a command starts answers this machine, by its flags --http-address and --http-port."""
    given = dict(flag.split("=", 1) for flag in command if flag.startswith("--http-") and "=" in flag)
    host = given.get("--http-address", "0.0.0.0")
    return f"{'127.0.0.1' if host == '0.0.0.0' else host}:{given.get('--http-port', '8000')}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m codecascade.supervision",
        description="Run a Triton server, and start it again when one of its processes is gone.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--address", default="0.0.0.0", help="where probes are answered")
    parser.add_argument("--port", type=int, default=8003, help="and at which port")
    parser.add_argument(
        "--restarts", type=int, default=5, help="one more within the window ends this program; 0: only tell probes"
    )
    parser.add_argument("--window-s", type=float, default=600.0, help="the window of --restarts")
    parser.add_argument("--start-s", type=float, default=_PATIENCE.start_s, help="a restart that takes longer has failed")
    parser.add_argument("--answer-s", type=float, default=_PATIENCE.answer_s, help="a model that takes longer is not ready")
    parser.add_argument("--hung-s", type=float, default=_PATIENCE.hung_s, help="a model that is silent for so long is restarted")
    parser.add_argument("--ask-s", type=float, default=_PATIENCE.ask_s, help="between two questions to a model")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and what starts the server in the foreground")
    options = parser.parse_args()
    options.command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not options.command:
        parser.error("there is no command, it must follow --")
    return options


if __name__ == "__main__":
    main()
