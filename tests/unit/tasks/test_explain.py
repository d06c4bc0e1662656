"""Other people's exceptions: each gets a class, a next step, and the place that it speaks of."""

import errno
import os
import sqlite3
import urllib.error

import httpx
import pytest
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.core.errors import (
    DiskFull,
    KawanUsahaError,
    NotAModel,
    PortTaken,
    PrefectUnavailable,
    SystemRefused,
)
from tasks.explain import explained

API = "http://user:secret@127.0.0.1:4200/api"
ASKED = httpx.Request("POST", "http://127.0.0.1:4200/api/flow_runs/")
ELSEWHERE = httpx.Request("GET", "http://127.0.0.1:8000/v1/models?key=secret")


def raised_from(cause: BaseException) -> BaseException:
    """What a library makes of it: an exception that says nothing itself."""
    try:
        raise RuntimeError("Failed to reach API") from cause
    except RuntimeError as error:
        return error


def known(error: BaseException) -> KawanUsahaError:
    with temporary_settings({PREFECT_API_URL: API}):
        found = explained(error)
    assert found is not None, error
    assert found.next_step
    return found


@pytest.mark.parametrize(
    ("number", "kind", "advice"),
    [
        (errno.ENOSPC, DiskFull, "KAWAN_USAHA_HOME"),
        (errno.EDQUOT, DiskFull, "KAWAN_USAHA_HOME"),
        (errno.EACCES, SystemRefused, "ls -ld"),
        (errno.EPERM, SystemRefused, "ls -ld"),
        (errno.ENOTDIR, SystemRefused, "path"),
        (errno.EISDIR, SystemRefused, "path"),
        (errno.ENOENT, SystemRefused, "path"),
        (errno.EROFS, SystemRefused, "mount"),
        (errno.EMFILE, SystemRefused, "ulimit -n"),
        (errno.ENFILE, SystemRefused, "ulimit -n"),
        (errno.ENAMETOOLONG, SystemRefused, "shorter"),
        (errno.EIO, SystemRefused, "dmesg"),
        (errno.ENOMEM, SystemRefused, "memory"),
        (errno.EADDRINUSE, PortTaken, "port"),
        (errno.ETIMEDOUT, SystemRefused, "reach"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda error: error, raised_from])
def test_what_the_system_refuses_is_told_with_path_and_remedy(
    number: int, kind: type[KawanUsahaError], advice: str, wrap: object
) -> None:
    found = known(wrap(OSError(number, os.strerror(number), "/data/model")))  # type: ignore[operator]
    assert type(found) is kind
    assert found.where == "/data/model"
    assert found.found == os.strerror(number)
    assert advice in str(found.next_step)


def test_both_paths_of_a_rename_are_named() -> None:
    assert known(OSError(errno.EACCES, "denied", "a", None, b"b")).where == "a and b"


@pytest.mark.parametrize("error", [MemoryError(), TimeoutError("timed out"), ConnectionError()])
def test_errors_of_the_system_without_a_number_are_known_by_their_class(error: Exception) -> None:
    assert isinstance(known(error), SystemRefused)


@pytest.mark.parametrize(
    "kind", [httpx.ConnectError, httpx.ReadTimeout, httpx.ConnectTimeout, httpx.RemoteProtocolError]
)
@pytest.mark.parametrize("wrap", [lambda error: error, raised_from])
def test_a_prefect_server_that_cannot_be_reached_is_to_be_started_or_unset(
    kind: type[httpx.TransportError], wrap: object
) -> None:
    found = known(wrap(kind("no", request=ASKED)))  # type: ignore[operator]
    assert isinstance(found, PrefectUnavailable)
    assert "prefect server start" in str(found.next_step)
    assert "unset PREFECT_API_URL" in str(found.next_step)


@pytest.mark.parametrize(
    ("status", "advice"),
    [(500, "output"), (503, "output"), (401, "KEY"), (403, "KEY"), (404, "/api"), (429, "output")],
)
def test_a_prefect_server_that_answers_with_an_error_is_told_by_its_status(
    status: int, advice: str
) -> None:
    response = httpx.Response(status, request=ASKED, text="database is locked")
    error = httpx.HTTPStatusError("no", request=ASKED, response=response)
    found = known(PrefectHTTPStatusError.from_httpx_error(error))
    assert isinstance(found, PrefectUnavailable)
    assert f"HTTP {status} database is locked" == found.found
    assert advice in str(found.next_step)


def test_a_group_of_exceptions_is_known_by_the_first() -> None:
    group = ExceptionGroup("tasks", [httpx.ReadTimeout("no", request=ASKED)])
    assert isinstance(known(group), PrefectUnavailable)


def test_a_locked_database_is_told() -> None:
    error = raised_from(sqlite3.OperationalError("database is locked"))
    assert "database is locked" in str(known(error))


def test_a_server_that_is_not_prefects_is_not_taken_for_it() -> None:
    found = known(httpx.ConnectError("no", request=ELSEWHERE))
    assert isinstance(found, SystemRefused)
    assert found.where == "http://127.0.0.1:8000/v1/models"


def test_an_explained_error_is_its_own_explanation() -> None:
    error = NotAModel("No.")
    assert explained(error) is error
    assert explained(raised_from(error)) is error


def test_what_was_handled_before_explains_nothing() -> None:
    with pytest.raises(TypeError) as caught:
        try:
            raise OSError(errno.ENOSPC, "full")
        except OSError:
            len(None)  # type: ignore[arg-type]
    assert explained(caught.value) is None


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        OSError("nothing known"),
        BrokenPipeError(errno.EPIPE, "of some child"),
        sqlite3.OperationalError("no such table"),
        urllib.error.URLError("no"),
        EOFError(),
        httpx.HTTPStatusError("no", request=ELSEWHERE, response=httpx.Response(500)),
    ],
)
def test_nothing_is_guessed(error: Exception) -> None:
    with temporary_settings({PREFECT_API_URL: API}):
        assert explained(error) is None


def test_causes_that_go_in_a_circle_end() -> None:
    first, second = ValueError(), TypeError()
    first.__cause__, second.__cause__ = second, first
    assert explained(first) is None
