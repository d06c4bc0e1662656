"""Why a write to the Hub failed, and which failures are retried.

Adds to `hub.errors` what only writing meets: no room left, a name that is taken, a branch that
moved. `insist` retries what may pass by itself (429, 5xx, a dropped connection) until a deadline;
everything else, every other 4xx among it, is raised at once. Invariant: only steps that read the
state before they change it are given to `insist`, so that a step whose answer was lost does no
harm when it runs again.

huggingface_hub retries some of its own requests up to five times within one step, and then waits
as long as a 429 asks; the deadline is checked between steps.
"""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx2
from huggingface_hub.errors import HfHubHTTPError

from tasks.core.errors import HubError, HubQuotaExceeded, HubUnavailable
from tasks.core.hub.errors import translated, waiting_time_s
from tasks.core.retry import retrying_until

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0

_NO_ROOM_STATUS = {
    httpx2.codes.PAYMENT_REQUIRED,
    httpx2.codes.CONTENT_TOO_LARGE,
    httpx2.codes.INSUFFICIENT_STORAGE,
}
_TRANSLATED_FOR_ALL = {
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
    """Return what step returns, retrying it while the Hub cannot be reached.

    The deadline counts from the step's first failure. Raises the translated error of the last
    attempt; when the Hub asks to wait longer than the deadline allows, the error says how long.
    """

    def attempt() -> T:
        with translated(repo), write_causes(repo):
            return step()

    insisting = retrying_until(
        HubUnavailable,
        deadline_s,
        first_wait_s=FIRST_WAIT_S,
        longest_wait_s=LONGEST_WAIT_S,
        asked_s=_asked_to_wait_s,
        on_wait=_log_wait,
    )
    try:
        return insisting(attempt)
    except HubUnavailable as error:
        raise _out_of_patience(error, deadline_s) from error


def _log_wait(error: HubUnavailable, wait_s: float) -> None:
    logger.warning("%s Trying again in %.0f s.", error.what, wait_s)


@contextmanager
def write_causes(repo: str) -> Iterator[None]:
    """Raise what only writing meets in this block as one of tasks.core.errors.

    Other exceptions pass, for `hub.errors.translated`.
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
            "The Hub refused a file.",
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
            "Somebody else changed the repository during the publish.",
            where=repo,
            found=said,
            next_step="Find out who else publishes there, then publish again: what has arrived is "
            "not sent again.",
        )
    if httpx2.codes.is_client_error(status) and status not in _TRANSLATED_FOR_ALL:
        return HubError(
            "The Hub refused a request that publishing needs.",
            where=repo,
            found=f"{status} {said}",
            next_step="Correct what the answer names: another try would not help. main was not "
            "touched.",
        )
    return None


def _no_room(said: str, repo: str) -> HubQuotaExceeded | None:
    return _no_room_left(said, repo) if _NO_ROOM.search(said) else None


def _no_room_left(said: str, repo: str) -> HubQuotaExceeded:
    return HubQuotaExceeded(
        "The account has no storage left for this upload.",
        where=repo,
        found=said,
        next_step="Delete old repositories or branches, take a larger plan, or publish to a "
        "directory or bucket with `publish.target`. What has arrived is not sent again.",
    )


def _asked_to_wait_s(error: BaseException | None) -> float | None:
    """Return how long the answer behind an error asked to wait, None when it did not say."""
    while error is not None and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    return None if error is None else waiting_time_s(error.response)


def _out_of_patience(error: HubUnavailable, deadline_s: float) -> HubUnavailable:
    asked_s = _asked_to_wait_s(error)
    when = "later" if asked_s is None else f"in {asked_s:.0f} s, as the Hub asks"
    return HubUnavailable(
        error.what,
        where=error.where,
        expected=f"an answer within {deadline_s:.0f} s of the first failure",
        found=error.found,
        next_step=f"Publish again {when}; what has arrived is not sent again.",
    )
