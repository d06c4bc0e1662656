"""What goes wrong with a Hub, as errors of this project: what, where, and the next step.

Covers what download and upload have in common; `publish/to_hub/errors.py` adds what only writing
meets. A token never stands in a message.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)

from tasks.core.errors import (
    DiskFull,
    GatedRepository,
    HubError,
    HubOffline,
    HubUnavailable,
    KawanUsahaError,
    RepositoryNotFound,
    RevisionNotFound,
    UsageError,
    WrongToken,
)
from tasks.core.files.disk_space import disk_is_full
from tasks.core.hub.client import endpoint
from tasks.core.hub.private_api import parse_ratelimit_headers

_WRAPPERS = (RuntimeError, LocalEntryNotFoundError, RevisionResolutionError)
_UNREACHABLE = (httpx2.TransportError, LocalEntryNotFoundError, RevisionResolutionError)


def waiting_time_s(response: httpx2.Response) -> float | None:
    """Return how long the Hub asks clients to wait, None when it does not say.

    From RateLimit (draft-ietf-httpapi-ratelimit-headers) or Retry-After, in seconds or as a date.
    """
    limit = parse_ratelimit_headers(response.headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    retry_after = response.headers.get("Retry-After", "").strip()
    if retry_after.isdigit():
        return float(retry_after)
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (until - _time_at(response)).total_seconds())


def _time_at(response: httpx2.Response) -> datetime:
    """Return when an answer was sent, by the server's clock if its Date says so."""
    try:
        return parsedate_to_datetime(response.headers.get("Date", ""))
    except ValueError:
        return datetime.now(UTC)


@contextmanager
def translated(repo: str, revision: str | None = None) -> Iterator[None]:
    """Raise what goes wrong with the Hub in this block as one of tasks.core.errors.

    Other exceptions pass: a bug is not the Hub's.
    """
    try:
        yield
    except KawanUsahaError:
        raise
    except Exception as error:
        known = _translate(_cause(error), repo, revision)
        if known is None:
            raise
        raise known from error


def _cause(error: BaseException) -> BaseException:
    """Return the failure that huggingface_hub has wrapped.

    An LFS upload raises RuntimeError, and a missing cache entry stands for a failed request.
    """
    while isinstance(error, _WRAPPERS) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _translate(error: BaseException, repo: str, revision: str | None) -> KawanUsahaError | None:
    if isinstance(error, HfHubHTTPError):
        return _of_answer(error, f"{endpoint()}/{repo}", revision)
    if isinstance(error, HFValidationError):
        return UsageError(
            "This is not a repository name.",
            where=repo,
            expected="owner/name",
            found=error,
            next_step="Correct the name in the recipe.",
        )
    if isinstance(error, OSError) and disk_is_full(error):
        return DiskFull(
            "The disk is full.",
            where=error.filename,
            found=error.strerror,
            next_step="Free some space and run again: what has arrived is kept.",
        )
    return _of_connection(error)


def _of_connection(error: BaseException) -> KawanUsahaError | None:
    if isinstance(error, OfflineModeIsEnabled):
        return HubOffline(
            "HF_HUB_OFFLINE is set, so the Hub is not asked.",
            where=endpoint(),
            next_step="`unset HF_HUB_OFFLINE`, or name a directory instead of a repository.",
        )
    if isinstance(error, _UNREACHABLE):
        return HubUnavailable(
            "The Hub cannot be reached, or the connection broke.",
            where=endpoint(),
            found=f"{type(error).__name__}: {error}",
            next_step="Check the network, HF_ENDPOINT and proxy settings, and run again.",
        )
    return None


def _of_answer(error: HfHubHTTPError, where: str, revision: str | None) -> KawanUsahaError:
    if isinstance(error, GatedRepoError):
        return GatedRepository(
            "The repository asks for its terms to be accepted first.",
            where=where,
            next_step=f"Open {where} in a browser, accept the terms, and `export HF_TOKEN=...` "
            "with a token of that account.",
        )
    if isinstance(error, RepositoryNotFoundError):
        return RepositoryNotFound(
            "There is no such repository, or the token may not see it.",
            where=where,
            next_step=f"Check the spelling. If it is private: {_new_token()}",
        )
    if isinstance(error, RevisionNotFoundError):
        return RevisionNotFound(
            "The repository has no such revision.",
            where=where,
            expected="a branch, a tag or a full commit id",
            found=revision,
            next_step=f"{where}/commits/main lists the commits.",
        )
    if isinstance(error, RemoteEntryNotFoundError):
        return HubError("The repository does not have this file.", where=where, found=error)
    return _of_status(error, where)


def _of_status(error: HfHubHTTPError, where: str) -> KawanUsahaError:
    status = error.response.status_code
    said = error.server_message or error.response.reason_phrase
    if status == httpx2.codes.UNAUTHORIZED:
        return WrongToken("The Hub rejects the token.", where=where, next_step=_new_token())
    if status == httpx2.codes.FORBIDDEN:
        return WrongToken(
            "The Hub forbids this.",
            where=where,
            found=said,
            next_step="Use a token that is allowed to do it (writing needs the role `write` and a "
            "namespace of your own). If a quota is exceeded, delete what is not needed.",
        )
    if status == httpx2.codes.TOO_MANY_REQUESTS:
        return _slow_down(error.response, where, said)
    if status >= httpx2.codes.INTERNAL_SERVER_ERROR or status == httpx2.codes.REQUEST_TIMEOUT:
        return HubUnavailable(
            "The Hub returned a server error.",
            where=where,
            found=f"{status} {said}",
            next_step="Try again later; https://status.huggingface.co reports outages.",
        )
    return HubError("The Hub refused.", where=where, found=f"{status} {said}")


def _slow_down(response: httpx2.Response, where: str, said: str) -> HubUnavailable:
    wait_s = waiting_time_s(response)
    return HubUnavailable(
        "The Hub is limiting the rate of requests.",
        where=where,
        found=said,
        next_step=f"Try again in {wait_s:.0f} s." if wait_s else "Try again in some minutes.",
    )


def _new_token() -> str:
    return f"Make a token at {endpoint()}/settings/tokens and `export HF_TOKEN=...`."
