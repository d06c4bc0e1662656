"""Exceptions of the system, the network, a bucket or Prefect, explained as errors of this project.

One place for the command line and for stages. It decides by the exception's class or error number,
and imports no library to do so: the class names its library. The invariant: an unknown exception
stays as it is, and no text is interpreted except where SQLite and Prefect offer nothing else.
"""

import sqlite3
import sys
from collections.abc import Iterator
from typing import Any

from tasks.core.errors import DiskFull, KawanUsahaError, PrefectUnavailable
from tasks.core.home import home
from tasks.core.storage.errors import storage_error
from tasks.core.system.errors import NO_ANSWER, system_error

_START = (
    "If PREFECT_API_URL is set, start the server that it names (`prefect server start`), or unset "
    "it (`unset PREFECT_API_URL`; in a profile: `prefect config unset PREFECT_API_URL`) to use a "
    "temporary server. Then run the same command again: what is finished is kept."
)
_ADDRESS = "PREFECT_API_URL must be an address such as http://127.0.0.1:4200/api, or not be set."
_LOOK = (
    "Its own output says why; where SQLite is too slow, use PostgreSQL "
    "(PREFECT_API_DATABASE_CONNECTION_URL). Then run the same command again: what is finished is "
    "kept."
)
_KEY = "Set PREFECT_API_KEY, or PREFECT_API_AUTH_STRING, to what the server accepts."
_VERSION = (
    "The address of the API ends in /api (http://127.0.0.1:4200/api). Server and client should "
    "have the same version: compare `prefect version` on both."
)


def known_failure(error: BaseException) -> KawanUsahaError | None:
    """Return an exception explained, on a full disk with what can be removed; None if unknown.

    Only a full disk imports what knows the store: memory may be what failed.
    """
    known = explained(error)
    if isinstance(known, DiskFull):
        from tasks.core.pruning import with_advice

        return with_advice(known, home())
    return known


def explained(error: BaseException) -> KawanUsahaError | None:
    """Return what an exception means and what to do, None for an unknown one.

    Looks at the exception, then at its causes. An error of this project is its own explanation.
    """
    for each in _chain(error):
        found = _explained(each)
        if found is not None:
            return found
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and its causes, each once; of a group, its first exception."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.exceptions[0] if isinstance(each, BaseExceptionGroup) else each.__cause__


def _explained(error: BaseException) -> KawanUsahaError | None:
    if isinstance(error, KawanUsahaError):
        return error
    if (of_storage := storage_error(error)) is not None:  # some of these are an OSError, too
        return of_storage
    if (of_system := system_error(error)) is not None:
        return of_system
    if isinstance(error, sqlite3.OperationalError):
        return _of_database(error)
    return _of_network(error)


def _of_database(error: sqlite3.OperationalError) -> KawanUsahaError | None:
    if "locked" not in str(error):
        return None
    return PrefectUnavailable("Prefect's database is locked.", found=error, next_step=_LOOK)


def _of_network(error: BaseException) -> KawanUsahaError | None:
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    if "httpx.HTTPStatusError" in kinds:
        return _of_status(error)
    if "httpx.TransportError" in kinds:
        return _of_transport(error)
    if "prefect.CancelledRun" in kinds:
        again = "Run the same command again: what is finished is kept."
        return PrefectUnavailable("The run was cancelled in Prefect.", next_step=again)
    return None


def _of_transport(error: BaseException) -> KawanUsahaError:
    """Explain why no answer came: connection refused, dropped, or timed out."""
    url = _url_of(error)
    found = f"{type(error).__name__}: {error}".rstrip(": ")
    if _is_prefects(url):
        is_address = str(url).startswith(("http://", "https://"))
        what = "The Prefect server cannot be reached."
        next_step = _START if is_address else _ADDRESS
        return PrefectUnavailable(what, where=url, found=found, next_step=next_step)
    return NO_ANSWER.told(where=url, found=found)


def _of_status(error: BaseException) -> KawanUsahaError | None:
    """Explain an error status from Prefect's server; None for other servers."""
    url, response = _url_of(error), getattr(error, "response", None)
    if response is None or not _is_prefects(url):
        return None
    status = int(response.status_code)
    what, next_step = "The Prefect server does not know this request.", _VERSION
    if status >= 500:
        what, next_step = "The Prefect server fails.", _LOOK
    elif status in (401, 403):
        what, next_step = "The Prefect server refuses this client.", _KEY
    elif status in (408, 429):
        what, next_step = "The Prefect server is too busy.", _LOOK
    found = f"HTTP {status} {response.text[:200]}".rstrip()
    return PrefectUnavailable(what, where=url, found=found, next_step=next_step)


def _url_of(error: BaseException) -> str | None:
    request = getattr(error, "_request", None)  # the property raises where there is none
    url = getattr(request, "url", None)
    return None if url is None else _bare(url)


def _bare(url: Any) -> str:
    """Return an httpx URL without the parts that may hold a secret."""
    return str(url.copy_with(username=None, password=None, query=None))


def _is_prefects(url: str | None) -> bool:
    if url is None or "prefect" not in sys.modules:
        return False
    from httpx import URL
    from prefect.settings import PREFECT_API_URL

    address = PREFECT_API_URL.value()
    return bool(address) and url.startswith(_bare(URL(address)).rstrip("/"))
