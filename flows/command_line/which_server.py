"""The Prefect server that a command talks to."""

import os

from flows.prefect_server.local_prefect import LocalPrefect
from flows.prefect_server.pools import POOLS
from tasks.core.errors import UsageError
from tasks.core.home import home


def local_prefect() -> LocalPrefect:
    """Return the Prefect of this home, whether it is running or not."""
    return LocalPrefect(home(), tuple(POOLS))


def server_address(*, or_local: bool = True) -> str:
    """Return the API address in PREFECT_API_URL, or with `or_local` that of this home's server.

    Raises UsageError where there is neither.
    """
    address = os.environ.get("PREFECT_API_URL") or (local_prefect().address() if or_local else None)
    if not address:
        raise UsageError(
            "No Prefect server runs here, and PREFECT_API_URL names none."
            if or_local
            else "PREFECT_API_URL names no server.",
            expected="the address of its API in PREFECT_API_URL",
            next_step="Or start one on this machine: `kawan-usaha prefect up`.",
        )
    return address
