"""A report from a child's bytes: whole, cut short or forged."""

from __future__ import annotations

import signal

import pytest
from codecascade.sandbox.reports import NeverStarted, Report
from codecascade.sandbox.zygote import protocol
from codecascade.sandbox.zygote.protocol import (
    ASSERTION,
    DIED,
    MODULE,
    OK,
    RAISED,
    READY,
    TAMPERED,
    TIMEOUT,
    VALUE,
    Attempt,
)

NONCE = bytes(range(16))
STARTED = [(READY, OK), (MODULE, OK)]


def frames(*sent: tuple[int, int], nonce: bytes = NONCE, text: bytes = b"") -> bytes:
    """One frame for each (position, status). Lines start at position 2."""
    return b"".join(protocol.FRAME.pack(nonce, position, status, len(text)) + text for position, status in sent)


def attempt(data: bytes, status: int = 0, timed_out: bool = False, cpu_s: float = 0.25) -> Attempt:
    return Attempt(NONCE, cpu_s, 0.5, status, timed_out, data)


def report_of(*attempts: Attempt, lines: int = 2, cpu_s: float = 5, wall_s: float = 20) -> Report:
    report = Report(lines, cpu_s, wall_s)
    for sent in attempts:
        assert not report.done
        report.add(sent)
    return report


def test_a_child_that_runs_to_its_end_needs_no_second_one() -> None:
    report = report_of(attempt(frames(*STARTED, (2, OK), (3, ASSERTION))))
    assert report.done
    assert (report.module, report.lines) == (OK, [(OK, ""), (ASSERTION, "")])
    assert (report.cpu_s, report.ending) == (0.25, "finished")


def test_values_are_kept_as_text() -> None:
    ends = frames(*STARTED) + frames((2, VALUE), text=b'"a"') + frames((3, VALUE), text=b"1")
    assert report_of(attempt(ends)).lines == [(VALUE, '"a"'), (VALUE, "1")]


def test_a_program_without_lines_is_done_when_it_has_run() -> None:
    assert not Report(0, 5, 20).done
    assert report_of(attempt(frames(*STARTED)), lines=0).done


@pytest.mark.parametrize(
    ("status", "timed_out", "fate", "ending"),
    [
        (0, False, DIED, "exited with 0"),
        (3 << 8, False, DIED, "exited with 3"),
        (signal.SIGSEGV, False, DIED, "killed by SIGSEGV"),
        (signal.SIGXCPU, False, TIMEOUT, "killed by SIGXCPU"),
        (signal.SIGRTMIN, False, DIED, "killed by SIGRTMIN"),
        *((number, False, DIED, f"killed by signal {number}") for number in range(signal.SIGRTMIN + 1, signal.SIGRTMAX)),
        (32, False, DIED, "killed by signal 32"),
        (signal.SIGKILL, True, TIMEOUT, "timeout"),
    ],
)
def test_the_line_in_which_a_child_ended_says_how(status: int, timed_out: bool, fate: int, ending: str) -> None:
    died = attempt(frames(*STARTED, (2, OK)), status, timed_out)
    assert report_of(died).ending == ending
    assert report_of(died).lines == [(OK, ""), (fate, "")]


def test_the_lines_after_the_one_that_killed_a_child_are_left_to_another() -> None:
    report = report_of(attempt(frames(*STARTED)))
    assert report.lines == [(DIED, "")]
    assert not report.done
    report.add(attempt(frames(*STARTED, (3, OK))))
    assert report.done
    assert (report.module, report.lines, report.cpu_s) == (OK, [(DIED, ""), (OK, "")], 0.5)


def test_after_three_deaths_the_other_lines_are_not_run() -> None:
    deaths = [attempt(frames(*STARTED, (2, OK))), attempt(frames(*STARTED)), attempt(frames(*STARTED))]
    report = report_of(*deaths, lines=6)
    assert report.done
    assert report.lines == [(OK, ""), *[(DIED, "")] * 5]


@pytest.mark.parametrize(("cpu_s", "wall_s"), [(0.25, 20), (5, 0.5)])
def test_nothing_more_is_run_when_the_time_of_a_candidate_is_used_up(cpu_s: float, wall_s: float) -> None:
    report = report_of(attempt(frames(*STARTED), timed_out=True), lines=3, cpu_s=cpu_s, wall_s=wall_s)
    assert report.done
    assert report.lines == [(TIMEOUT, "")] * 3


@pytest.mark.parametrize(("sent", "status"), [([(READY, OK), (MODULE, RAISED)], RAISED), ([(READY, OK)], DIED)])
def test_a_module_that_does_not_run_is_the_end_of_all_lines(sent: list[tuple[int, int]], status: int) -> None:
    report = report_of(attempt(frames(*sent)))
    assert report.done
    assert (report.module, report.lines) == (status, [(status, "")] * 2)


WHOLE = frames(*STARTED, (2, OK), (3, OK))
FORGED = {
    "other nonce": frames(*STARTED, (2, OK)) + frames((3, OK), nonce=bytes(16)),
    "a line twice": frames(*STARTED, (2, OK), (2, OK)),
    "a line left out": frames(*STARTED, (3, OK)),
    "lines before the module": frames((READY, OK), (2, OK), (3, OK)),
    "one more": WHOLE + frames((4, OK)),
    "bytes after the last": WHOLE + b"x",
    "half a frame": WHOLE[:-1],
    "half a value": frames(*STARTED) + frames((2, VALUE), text=b"1234")[:-1],
    "a status of the supervisor's": frames(*STARTED, (2, TIMEOUT)),
    "a value where none belongs": frames(*STARTED) + frames((2, OK), text=b"1"),
    "too long a value": frames(*STARTED) + frames((2, VALUE), text=b"1" * (protocol.MAX_VALUE_BYTES + 1)),
    "a value that is not text": frames(*STARTED) + frames((2, VALUE), text=b"\xff"),
    "noise": b"\0" * 100,
}


@pytest.mark.parametrize("data", FORGED.values(), ids=FORGED)
def test_whatever_a_runner_would_not_send_makes_every_line_tampered(data: bytes) -> None:
    report = report_of(attempt(data))
    assert report.done
    assert (report.module, report.lines) == (TAMPERED, [(TAMPERED, "")] * 2)
    assert report.ending == "tampered with its verdicts"


def test_tampering_overrides_earlier_verdicts() -> None:
    report = report_of(attempt(frames(*STARTED, (2, OK))), attempt(b"\0" * 100), lines=3)
    assert report.lines == [(TAMPERED, "")] * 3


def test_a_child_that_was_never_locked_down_has_no_verdict() -> None:
    with pytest.raises(NeverStarted, match="a child exited with 1 before it was locked down"):
        report_of(attempt(b"", 1 << 8))


def test_messages_come_as_they_were_sent_wherever_they_are_cut() -> None:
    attempts = [attempt(WHOLE), attempt(b"", signal.SIGKILL, timed_out=True)]
    sent = [{"ready": 1}, attempts, [], {"cancelled": True}]
    packed = [
        protocol.pack_attempts([protocol.pack_attempt(*made) for made in message])
        if isinstance(message, list)
        else protocol.pack(message)
        for message in sent
    ]
    buffer, received = bytearray(), []
    for byte in b"".join(packed):
        buffer.append(byte)
        received += protocol.unpack(buffer)
    assert received == sent
    assert not buffer
