"""When a circuit breaker lets calls through, on a clock of its own."""

from __future__ import annotations

from codecascade.triton.calls.breaker import FAILURES, OPEN_S, Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        breaker.failed()
    return breaker


def test_it_opens_after_failures_in_a_row_and_not_before() -> None:
    breaker = Breaker(Clock())
    for _ in range(FAILURES - 1):
        breaker.failed()
    assert (breaker.state, breaker.allows, breaker.opened) == ("closed", True, 0)
    breaker.failed()
    assert (breaker.state, breaker.allows, breaker.opened) == ("open", False, 1)


def test_a_success_begins_the_row_again() -> None:
    breaker = Breaker(Clock())
    for _ in range(3 * FAILURES):
        breaker.failed()
        breaker.succeeded()
    assert breaker.state == "closed"


def test_after_a_while_exactly_one_call_tries_again() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += OPEN_S - 0.1
    assert not breaker.allows
    clock.now += 0.1
    assert breaker.allows
    assert breaker.begin()
    assert (breaker.state, breaker.allows) == ("half-open", False)


def test_a_probe_that_succeeds_closes_it() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += OPEN_S
    breaker.begin()
    breaker.succeeded()
    assert (breaker.state, breaker.allows, breaker.begin()) == ("closed", True, False)


def test_a_probe_that_fails_opens_it_for_as_long_again() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += OPEN_S
    breaker.failed(breaker.begin())
    assert (breaker.state, breaker.allows, breaker.opened) == ("open", False, 1)
    clock.now += OPEN_S
    assert breaker.allows


def test_a_probe_whose_caller_goes_away_leaves_the_try_to_the_next_call() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += OPEN_S
    breaker.undecided(breaker.begin())
    assert (breaker.state, breaker.allows) == ("open", True)


def test_calls_from_before_it_opened_neither_keep_it_open_nor_end_the_probe() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += OPEN_S
    breaker.failed()
    assert breaker.allows
    breaker.begin()
    breaker.failed()
    breaker.undecided(False)
    assert (breaker.state, breaker.allows) == ("half-open", False)


def test_what_is_known_not_to_work_is_not_asked_five_times() -> None:
    breaker = Breaker(Clock())
    breaker.trip()
    breaker.trip()
    assert (breaker.state, breaker.allows, breaker.opened) == ("open", False, 1)
