"""Which Prefect server a command speaks to."""

import os
from typing import TYPE_CHECKING

from tasks.core.errors import UsageError

if TYPE_CHECKING:
    from flows.operations import Operations


def here() -> "Operations":
    """Return the Prefect of this home, whether it is up or not."""
    from flows.operations import Operations
    from flows.pools import POOLS
    from tasks.core.home import home

    return Operations(home(), tuple(POOLS))


def named_server(*, or_here: bool = True) -> str:
    """Return the API's address in PREFECT_API_URL, or else, if so wished, of what is up here.

    Raises UsageError where there is neither.
    """
    address = os.environ.get("PREFECT_API_URL") or (here().address() if or_here else None)
    if not address:
        raise UsageError(
            "No Prefect server is up here, and none is named."
            if or_here
            else "No server is named.",
            expected="its API's address in PREFECT_API_URL",
            next_step="Or start one on this machine: `kawan-usaha prefect up`.",
        )
    return address
