"""Prefect's test harness, of which the processes of one run of the tests share one."""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

START_WITHIN_S = 600
"""Far above what it takes, also on a busy machine."""


@contextmanager
def shared_prefect(directory: Path) -> Iterator[None]:
    """Give a temporary server and database, those of the process that came first.

    To start them takes as much of a core as many of the tests that use them. Who started them ends
    them, once the others have left or died. What is installed on a server for all of its runs, such
    as an automation, wants a server of its own.
    """
    port_file = directory / "prefect-port"
    with (
        (directory / "prefect-lock").open("w") as lock,
        (directory / "prefect-users").open("w") as users,
        ExitStack() as stack,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        port = int(port_file.read_text()) if port_file.exists() else None
        with pytest.MonkeyPatch.context() as patch:
            if port is not None:
                patch.setattr(
                    SubprocessASGIServer, "start", lambda it, timeout: setattr(it, "port", port)
                )
            stack.enter_context(prefect_test_harness(server_startup_timeout=START_WITHIN_S))
        if port is None:
            port_file.write_text(str(urlsplit(PREFECT_API_URL.value()).port))
        fcntl.flock(lock, fcntl.LOCK_UN)
        try:
            yield
        finally:
            if port is None:
                fcntl.flock(lock, fcntl.LOCK_EX)
                fcntl.flock(users, fcntl.LOCK_EX)
                port_file.unlink()
