"""Retries: what is tried again, how often, and what ends a wait."""

import time
from collections.abc import Callable

import pytest

from tasks.core.errors import HubUnavailable
from tasks.core.retry import retrying, retrying_until
from tasks.core.system.threads import Interrupted, run_all

BUSY = HubUnavailable("busy")


class Waits(list[float]):
    """The waits that were made, without the time that they take."""

    def before(self, _: Exception, wait_s: float) -> None:
        self.append(wait_s)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    monkeypatch.setattr("tasks.core.retry.pause", lambda _: None)
    return Waits()


def failing(*errors: BaseException) -> Callable[[], str]:
    """Return what raises these in turn, and then answers."""
    rest = list(errors)

    def call() -> str:
        if rest:
            raise rest.pop(0)
        return "answered"

    return call


def test_an_attempt_follows_each_wait(waits: Waits) -> None:
    caller = retrying(HubUnavailable, (1.0, 4.0), on_wait=waits.before)
    assert caller(failing(BUSY, BUSY)) == "answered"
    assert waits == [1.0, 4.0]


def test_the_error_of_the_last_attempt_is_raised_as_it_is(waits: Waits) -> None:
    last = HubUnavailable("still busy")
    with pytest.raises(HubUnavailable) as raised:
        retrying(HubUnavailable, (1.0,))(failing(BUSY, last))
    assert raised.value is last


def test_without_waits_there_is_one_attempt(waits: Waits) -> None:
    with pytest.raises(HubUnavailable):
        retrying(HubUnavailable, ())(failing(BUSY))


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt()])
def test_nothing_else_is_retried(error: BaseException, waits: Waits) -> None:
    with pytest.raises(type(error)):
        retrying(HubUnavailable, (1.0,), on_wait=waits.before)(failing(error))
    assert waits == []


def test_a_server_that_asks_for_a_longer_wait_is_given_it(waits: Waits) -> None:
    caller = retrying(HubUnavailable, (1.0, 9.0), asked_s=lambda _: 7.0, on_wait=waits.before)
    assert caller(failing(BUSY, BUSY)) == "answered"
    assert waits == [7.0, 9.0]


def test_a_wait_that_is_too_long_ends_the_attempts(waits: Waits) -> None:
    caller = retrying(HubUnavailable, (1.0,), asked_s=lambda _: 121.0, longest_asked_s=120.0)
    with pytest.raises(HubUnavailable):
        caller(failing(BUSY))


def test_waits_double_up_to_the_longest(waits: Waits) -> None:
    caller = retrying_until(
        HubUnavailable, 100.0, first_wait_s=1.0, longest_wait_s=3.0, on_wait=waits.before
    )
    assert caller(failing(BUSY, BUSY, BUSY, BUSY)) == "answered"
    assert waits == [1.0, 2.0, 3.0, 3.0]


def test_the_deadline_counts_from_the_first_failure_and_no_wait_passes_it(waits: Waits) -> None:
    caller = retrying_until(
        HubUnavailable, 1.5, first_wait_s=1.0, longest_wait_s=60.0, on_wait=waits.before
    )
    with pytest.raises(HubUnavailable):
        caller(failing(BUSY, BUSY, BUSY))
    assert waits == [1.0]


def test_a_wait_ends_at_once_when_the_work_around_it_is_to_end() -> None:
    ended: list[BaseException] = []

    def waiting() -> None:
        try:
            retrying(HubUnavailable, (60.0,))(failing(BUSY))
        except BaseException as error:
            ended.append(error)
            raise

    def broken() -> None:
        time.sleep(0.1)
        raise ValueError("a bug")

    began = time.monotonic()
    with pytest.raises(ValueError, match="a bug"):
        run_all([waiting, broken], threads=2, name="test", stop=lambda: None)
    assert time.monotonic() - began < 30
    assert isinstance(ended[0], Interrupted)
