"""Starts a server, watches it, and starts it again."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from codecascade.supervision.bounds import Bounds
from codecascade.supervision.processes import Stub, ended, kill, reap_adopted, stubs, sweep
from codecascade.supervision.questions import Question, Triton
from codecascade.supervision.state import SERVER, State, Trouble

_START_POLL_S = 0.1
_READ_S = 30.0  # for what Triton answers itself


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the supervisor waits, in seconds."""

    start_s: float = 1800.0
    """A restart that takes longer has failed."""
    answer_s: float = 10.0
    """A model that takes longer to answer is not ready."""
    hung_s: float = 60.0
    """A model that has not answered for so long hangs: the server is started again."""
    ask_s: float = 1.0
    """Between two questions to a model."""


class Supervisor:
    """One server, from `run` to its return.

    command: starts the server and ends with it. triton: where it answers.
    Without restarts in its bounds it only watches, and tells probes the truth.
    """

    def __init__(self, command: Sequence[str], triton: Triton, state: State, bounds: Bounds, patience: Patience) -> None:
        self._command, self._triton, self._state, self._bounds = list(command), triton, state, bounds
        self._patience = patience
        self._stopping = asyncio.Event()
        self._stubs: list[Stub] = []
        self._questions: list[Question] = []

    async def run(self) -> int:
        """Until the server is told to stop, does not start the first time, or is in trouble too often. The exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGCHLD, lambda: reap_adopted(self._server.pid))
        if not await self._start(None):  # for the first time: Kubernetes, or a person, decides how long it may take
            return await self._exit_code()
        while True:
            trouble = await self._trouble()
            if self._stopping.is_set():
                return await self._exit_code()
            if not self._bounds.restarts:
                self._fail(trouble)
                return await self._exit_code()
            if not await self._start_again(trouble):
                return 1

    def _stop(self) -> None:
        """Pass it on: Triton lets requests under way end."""
        self._stopping.set()
        self._state.phase = "stopping"
        with contextlib.suppress(ProcessLookupError):
            self._server.send_signal(signal.SIGTERM)

    async def _exit_code(self) -> int:
        """Of the server, when it has ended. Nothing of it is left then."""
        await ended(self._server.pid)
        sweep(self._stubs)
        return self._server.wait()

    async def _start(self, timeout_s: float | None) -> bool:
        """Whether the server has become ready; False if it ended before that, or did not become ready in time."""
        self._server = self._launch()
        end, models = asyncio.ensure_future(ended(self._server.pid)), asyncio.ensure_future(self._models())
        await asyncio.wait({end, models}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        if not models.done():
            models.cancel()
            return False
        self._questions, self._stubs = models.result(), stubs(self._server.pid)
        if not self._stopping.is_set():
            self._state.serving({question.model for question in self._questions} | {stub.model for stub in self._stubs})
        return True

    def _launch(self) -> subprocess.Popen[bytes]:
        """If this process is killed, the server ends too. Its log goes to stdout: stderr is for what the supervisor says."""
        return subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *self._command], stderr=subprocess.STDOUT)

    async def _models(self) -> list[Question]:
        """What to ask the models, as soon as the server is ready."""
        while (questions := await asyncio.to_thread(self._triton.questions, _READ_S)) is None:  # noqa: ASYNC110 - Triton sets no event
            await asyncio.sleep(_START_POLL_S)
        return questions

    async def _start_again(self, trouble: Trouble) -> bool:
        """Whether the server serves again."""
        noticed = asyncio.get_running_loop().time()
        while (wait_s := self._bounds.wait_s(asyncio.get_running_loop().time())) is not None:
            self._state.restarting(trouble)
            kill(self._server.pid, self._stubs)
            await self._exit_code()
            _say(f"{trouble}. Starting the server again ({self._bounds}) …")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)
                return False
            if await self._start(self._patience.start_s):
                recovery_s = asyncio.get_running_loop().time() - noticed
                self._state.recovered(recovery_s)
                _say(f"… ready again, {recovery_s:.1f} s after it was noticed.")
                return True
            if self._stopping.is_set():
                return False
            trouble = Trouble(SERVER, "ended")
        self._fail(trouble)
        kill(self._server.pid, self._stubs)
        await self._exit_code()
        return False

    def _fail(self, trouble: Trouble) -> None:
        self._state.failed(trouble)
        _say(f"{trouble}. The server is not started again ({self._bounds}).")

    async def _trouble(self) -> Trouble:
        """When a process has ended or a model does not answer."""
        threads = ThreadPoolExecutor(len(self._questions) + 1, thread_name_prefix="questions")
        watches = [
            *(_after(ended(stub.pid), Trouble(stub.model, "ended")) for stub in self._stubs),
            *(self._ask(question, threads) for question in self._questions),
            _after(ended(self._server.pid), Trouble(SERVER, "ended")),
        ]
        try:
            return await _first(watches)
        finally:
            threads.shutdown(wait=False)  # an unanswered question ends with the server

    async def _ask(self, question: Question, threads: ThreadPoolExecutor) -> Trouble:
        """Ask again and again; return when the model is in trouble."""
        loop = asyncio.get_running_loop()
        answered = loop.time()
        while loop.time() - answered < self._patience.hung_s:
            await asyncio.sleep(self._patience.ask_s)
            why = await loop.run_in_executor(threads, self._triton.ask, question, self._patience.answer_s)
            self._state.models[question.model] = why
            answered = answered if why else loop.time()
        return Trouble(question.model, "hung")


async def _after(event: Coroutine[Any, Any, None], trouble: Trouble) -> Trouble:
    await event
    return trouble


async def _first(watches: Sequence[Coroutine[Any, Any, Trouble]]) -> Trouble:
    """What the first of them returns; if several have returned, the first in this order."""
    tasks = [asyncio.ensure_future(watch) for watch in watches]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task.result() for task in tasks if task.done())
    finally:
        for task in tasks:
            task.cancel()


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # a full disk under the log must not end a server
        print(line, file=sys.stderr, flush=True)
