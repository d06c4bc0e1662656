"""Why a write to the Hub failed, and which failures are worth another try.

Adds to `client.translated` what only writing meets: no room left, a name that is taken, a branch
that moved. `insist` repeats what may pass by itself (429, 5xx, a cut connection) until a deadline;
everything else, every other 4xx among it, is raised at once. Invariant: only steps that read the
state before they change it are given to `insist`, so that a step whose answer was lost does no
harm when it runs again.

huggingface_hub repeats some of its own requests up to five times within one step, and then waits
as long as a 429 asks; the deadline is looked at between steps.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx2
from huggingface_hub.errors import HfHubHTTPError

from tasks.core.errors import HubError, HubQuotaExceeded, HubUnavailable
from tasks.core.hub.client import translated, waiting_time_s
from tasks.core.system.threads import pause

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0

_NO_ROOM_STATUS = {
    httpx2.codes.PAYMENT_REQUIRED,
    httpx2.codes.CONTENT_TOO_LARGE,
    httpx2.codes.INSUFFICIENT_STORAGE,
}
_TOLD_BY_THE_CLIENT = {
    httpx2.codes.UNAUTHORIZED,
    httpx2.codes.FORBIDDEN,
    httpx2.codes.NOT_FOUND,
    httpx2.codes.REQUEST_TIMEOUT,
    httpx2.codes.TOO_MANY_REQUESTS,
}
_NO_ROOM = re.compile(r"quota|storage limit|exceeded your|payment", re.I)

T = TypeVar("T")
logger = logging.getLogger(__name__)


def insist(step: Callable[[], T], *, repo: str, deadline_s: float) -> T:
    """Return what step returns, repeating it while the Hub is only out of reach.

    The deadline counts from the step's first failure. Raises the translated error of the last
    try; when the Hub asks to wait longer than the deadline allows, the error says how long.
    """
    wait_s = FIRST_WAIT_S
    until: float | None = None
    while True:
        try:
            with translated(repo), write_causes(repo):
                return step()
        except HubUnavailable as error:
            until = until or time.monotonic() + deadline_s
            asked_s = _asked_to_wait_s(error)
            pause_s = wait_s if asked_s is None else asked_s
            if time.monotonic() + pause_s > until:
                raise _out_of_patience(error, deadline_s, asked_s) from error
            logger.warning("%s Trying again in %.0f s.", error.what, pause_s)
        pause(pause_s)
        wait_s = min(wait_s * 2, LONGEST_WAIT_S)


@contextmanager
def write_causes(repo: str) -> Iterator[None]:
    """Raise what only writing meets in this block as one of tasks.core.errors.

    Other exceptions pass, for `client.translated`.
    """
    try:
        yield
    except (RuntimeError, ValueError, HfHubHTTPError) as error:
        # huggingface_hub wraps whatever an LFS upload raises into a RuntimeError.
        wrapped = isinstance(error, RuntimeError) and error.__cause__ is not None
        known = _write_cause(error.__cause__ if wrapped and error.__cause__ else error, repo)
        if known is None:
            raise
        raise known from error


def _write_cause(error: BaseException, repo: str) -> HubError | None:
    if isinstance(error, HfHubHTTPError):
        return _answer_cause(error, repo)
    if isinstance(error, ValueError) and "LFS batch API returned errors" in str(error):
        return _no_room(str(error), repo) or HubError(
            "The Hub refuses to take a file.",
            where=repo,
            found=error,
            next_step="The answer names the file by its SHA-256; the card's table has the name.",
        )
    return None


def _answer_cause(error: HfHubHTTPError, repo: str) -> HubError | None:
    status = error.response.status_code
    said = error.server_message or str(error)
    if status in _NO_ROOM_STATUS:
        return _no_room_left(said, repo)
    if status == httpx2.codes.FORBIDDEN:
        return _no_room(said, repo)
    if status == httpx2.codes.PRECONDITION_FAILED:
        return HubError(
            "Somebody else changed the repository while it was published to.",
            where=repo,
            found=said,
            next_step="See who publishes there, then publish again: nothing that arrived is sent "
            "again.",
        )
    if httpx2.codes.is_client_error(status) and status not in _TOLD_BY_THE_CLIENT:
        return HubError(
            "The Hub refuses what publishing asks for.",
            where=repo,
            found=f"{status} {said}",
            next_step="Asking again would not help: correct what the answer names. main was not "
            "touched.",
        )
    return None


def _no_room(said: str, repo: str) -> HubQuotaExceeded | None:
    return _no_room_left(said, repo) if _NO_ROOM.search(said) else None


def _no_room_left(said: str, repo: str) -> HubQuotaExceeded:
    return HubQuotaExceeded(
        "The account has no room left for this upload.",
        where=repo,
        found=said,
        next_step="Delete old repositories or branches, take a larger plan, or publish to a "
        "directory or bucket with `publish.target`. What has arrived is not sent again.",
    )


def _asked_to_wait_s(error: BaseException | None) -> float | None:
    """Return the seconds that the answer behind an error asked for, None when it did not."""
    while error is not None and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    return None if error is None else waiting_time_s(error.response)


def _out_of_patience(
    error: HubUnavailable, deadline_s: float, asked_s: float | None
) -> HubUnavailable:
    when = "later" if asked_s is None else f"in {asked_s:.0f} s, as the Hub asks"
    return HubUnavailable(
        error.what,
        where=error.where,
        expected=f"an answer within {deadline_s:.0f} s of the first failure",
        found=error.found,
        next_step=f"Publish again {when}; what has arrived is not sent again.",
    )
