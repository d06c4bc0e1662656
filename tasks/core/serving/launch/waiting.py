"""Wait for a server that is being started: until it answers, has ended, or is late."""

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
    """Return once question raises no ServingFailed any longer.

    require_alive raises what is the matter with a process that has ended. late makes the error of
    one that does not answer by deadline (of time.monotonic) from what the question last raised.
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
