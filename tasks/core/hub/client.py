"""The way to a Hub: which one, with which token, and its failures in our own words.

Covers what download and upload share. The endpoint is read from HF_ENDPOINT at each call and passed
on explicitly, because huggingface_hub reads the variable only once, when it is imported. A token
is taken from HF_TOKEN or the login of `hf auth login`, and never stands in a message.
"""

import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import HfApi, get_token
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
from tasks.core.hub.unpromised import parse_ratelimit_headers

DEFAULT_ENDPOINT = "https://huggingface.co"
TIMEOUT_S = 30.0
ASK_TIMEOUT_S = 10.0
"""For a question whose answer a run cannot begin without."""


def endpoint() -> str:
    """Return the address of the Hub that HF_ENDPOINT names now, by default huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def usable_token(token: str | None = None) -> str | None:
    """Return the token to send to the endpoint: the one given, else HF_TOKEN, else the login's.

    The login belongs to huggingface.co and goes to no other endpoint. Raises WrongToken for what
    cannot be a token; the HTTP library would refuse it with a message that shows it.
    """
    found = token or os.environ.get("HF_TOKEN")
    if not found and endpoint() == DEFAULT_ENDPOINT:
        found = get_token()
    found = (found or "").strip()
    if not (found.isascii() and found.isprintable()) or " " in found:
        raise WrongToken(
            "The token holds characters that no token has.",
            where="HF_TOKEN",
            next_step="Copy it again: it is one word that begins with hf_.",
        )
    return found or None


def api(token: str | None = None) -> HfApi:
    """Return a client of the present endpoint that sends the usable token, or none at all.

    Raises WrongToken.
    """
    return HfApi(
        endpoint=endpoint(), token=usable_token(token) or False, library_name="kawan-usaha"
    )


def is_on_this_machine(address: str) -> bool:
    """Return whether a Hub's address is one of the loopback interface."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def waiting_time_s(response: httpx2.Response) -> float | None:
    """Return how long the Hub asks to be left alone, None when it does not say.

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
    """Return the time at which an answer was sent, by the server's own clock if it tells."""
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
        told = _translate(_cause(error), repo, revision)
        if told is None:
            raise
        raise told from error


def _cause(error: BaseException) -> BaseException:
    """Return the failure below what huggingface_hub wraps around it.

    An LFS upload raises RuntimeError, and a missing cache entry stands for a failed request.
    """
    wrappers = (RuntimeError, LocalEntryNotFoundError, RevisionResolutionError)
    while isinstance(error, wrappers) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _translate(error: BaseException, repo: str, revision: str | None) -> KawanUsahaError | None:
    if isinstance(error, HfHubHTTPError):
        return _translate_answer(error, repo, revision)
    if isinstance(error, OfflineModeIsEnabled):
        return HubOffline(
            "HF_HUB_OFFLINE forbids to ask the Hub.",
            where=endpoint(),
            next_step="`unset HF_HUB_OFFLINE`, or name a directory instead of a repository.",
        )
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
            "The disk ran full.",
            where=error.filename,
            found=error.strerror,
            next_step="Free some space and run again: what has arrived is kept.",
        )
    if isinstance(error, httpx2.TransportError | LocalEntryNotFoundError | RevisionResolutionError):
        return HubUnavailable(
            "The Hub cannot be reached, or the connection broke.",
            where=endpoint(),
            found=f"{type(error).__name__}: {error}",
            next_step="Check the network, HF_ENDPOINT and proxy settings, and run again.",
        )
    return None


def _translate_answer(error: HfHubHTTPError, repo: str, revision: str | None) -> KawanUsahaError:
    where = f"{endpoint()}/{repo}"
    new_token = f"Make a token at {endpoint()}/settings/tokens and `export HF_TOKEN=...`."
    if isinstance(error, GatedRepoError):
        return GatedRepository(
            "The repository asks for its terms to be accepted first.",
            where=where,
            next_step=f"Open {where} in a browser, accept the terms, and `export HF_TOKEN=...` "
            "with a token of that account.",
        )
    if isinstance(error, RepositoryNotFoundError):
        return RepositoryNotFound(
            "There is no such repository, or no right to see it.",
            where=where,
            next_step=f"Check the spelling. If it is private: {new_token}",
        )
    if isinstance(error, RevisionNotFoundError):
        return RevisionNotFound(
            "The repository has no such revision.",
            where=where,
            expected="a branch, a tag or a full commit id",
            found=revision,
            next_step=f"See {where}/commits/main for what there is.",
        )
    if isinstance(error, RemoteEntryNotFoundError):
        return HubError("The repository does not have this file.", where=where, found=error)
    return _translate_status(error, where, new_token)


def _translate_status(error: HfHubHTTPError, where: str, new_token: str) -> KawanUsahaError:
    status = error.response.status_code
    said = error.server_message or error.response.reason_phrase
    if status == httpx2.codes.UNAUTHORIZED:
        return WrongToken("The Hub does not accept the token.", where=where, next_step=new_token)
    if status == httpx2.codes.FORBIDDEN:
        return WrongToken(
            "The Hub forbids this.",
            where=where,
            found=said,
            next_step="Use a token with the right to do it (writing needs the role `write` and a "
            "namespace of your own). If a quota is exceeded, remove what is not needed.",
        )
    if status == httpx2.codes.TOO_MANY_REQUESTS:
        wait_s = waiting_time_s(error.response)
        return HubUnavailable(
            "The Hub asks to slow down.",
            where=where,
            found=said,
            next_step=f"Try again in {wait_s:.0f} s." if wait_s else "Try again in some minutes.",
        )
    if status >= httpx2.codes.INTERNAL_SERVER_ERROR or status == httpx2.codes.REQUEST_TIMEOUT:
        return HubUnavailable(
            "The Hub fails to answer.",
            where=where,
            found=f"{status} {said}",
            next_step="Try again later; https://status.huggingface.co tells about outages.",
        )
    return HubError("The Hub refused.", where=where, found=f"{status} {said}")
