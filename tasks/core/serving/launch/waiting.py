"""Waiting for a server that is starting, until it answers, exits or takes too long."""

import time
from collections.abc import Callable

from tasks.core.errors import ServingFailed

_POLL_S = 0.25


def wait_for_answer(
    question: Callable[[], object],
    *,
    deadline: float,
    require_alive: Callable[[], None],
    late: Callable[[ServingFailed], ServingFailed],
) -> None:
    """Return once question no longer raises ServingFailed.

    require_alive raises the error of a process that has exited. late makes the error for one that
    does not answer by deadline (time.monotonic) from what question last raised.
    """
    while True:
        try:
            question()
            return
        except ServingFailed as error:
            unanswered = error
        require_alive()
        if time.monotonic() > deadline:
            raise late(unanswered) from unanswered
        time.sleep(_POLL_S)
