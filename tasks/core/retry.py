"""Retries: which error is tried again, how often, and how long the waits are.

Built on tenacity. Only errors of the given class are retried, and the error of the last attempt is
raised as it is. Every wait is a `system.threads.pause`, which ends at once on Ctrl-C and when the
work around it is to end. A download keeps its own loop (`hub/download/file.py`): there, each byte
that arrives starts the count anew, and tenacity counts calls.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    wait_chain,
    wait_exponential,
    wait_fixed,
)

from tasks.core.system.threads import pause

E = TypeVar("E", bound=Exception)

AskedWait = Callable[[E], float | None]
"""Returns the seconds that a server asked for in its error, None where it named no time."""
OnWait = Callable[[E, float], None]
"""Called before each wait with the error and the seconds of the wait."""


def retrying(
    error: type[E],
    waits_s: Sequence[float],
    *,
    asked_s: AskedWait[E] = lambda _: None,
    longest_asked_s: float = math.inf,
    on_wait: OnWait[E] = lambda *_: None,
    sleep: Callable[[float], None] | None = None,
) -> Retrying:
    """Return a caller that makes one more attempt after each of waits_s.

    A server that asks for a longer wait is given it, up to longest_asked_s; beyond that no further
    attempt is made.
    """
    planned = wait_chain(*map(wait_fixed, waits_s or (0.0,)))

    def wait(state: RetryCallState) -> float:
        return max(planned(state), asked_s(_error_of(state)) or 0.0)

    def stop(state: RetryCallState) -> bool:
        too_long = (asked_s(_error_of(state)) or 0.0) > longest_asked_s
        return too_long or state.attempt_number > len(waits_s)

    return _retrying(error, wait, stop, on_wait, sleep)


def retrying_until(
    error: type[E],
    deadline_s: float,
    *,
    first_wait_s: float,
    longest_wait_s: float,
    asked_s: AskedWait[E] = lambda _: None,
    on_wait: OnWait[E] = lambda *_: None,
) -> Retrying:
    """Return a caller whose attempts end deadline_s after the first failure.

    The waits double from first_wait_s to longest_wait_s; a server that names a time is given
    exactly that. No wait begins that would end after the deadline.
    """
    doubling = wait_exponential(multiplier=first_wait_s, max=longest_wait_s)
    first_failure_at = math.inf

    def wait(state: RetryCallState) -> float:
        asked = asked_s(_error_of(state))
        return doubling(state) if asked is None else asked

    def stop(state: RetryCallState) -> bool:
        nonlocal first_failure_at
        now = state.outcome_timestamp or 0.0
        first_failure_at = min(first_failure_at, now)
        return now + state.upcoming_sleep > first_failure_at + deadline_s

    return _retrying(error, wait, stop, on_wait)


def _retrying(
    error: type[E],
    wait: Callable[[RetryCallState], float],
    stop: Callable[[RetryCallState], bool],
    on_wait: OnWait[E],
    sleep: Callable[[float], None] | None = None,
) -> Retrying:
    return Retrying(
        retry=retry_if_exception_type(error),
        wait=wait,
        stop=stop,
        before_sleep=lambda state: on_wait(_error_of(state), state.upcoming_sleep),
        sleep=sleep or pause,
        reraise=True,
    )


def _error_of(state: RetryCallState) -> E:  # type: ignore[type-var]
    if state.outcome is None:
        raise RuntimeError("no attempt was made yet")
    return state.outcome.exception()  # type: ignore[return-value]
