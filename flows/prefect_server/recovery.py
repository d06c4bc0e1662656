"""A program beside the server that restarts the runs its automations have missed.

The automations live in the server's memory: a killed server forgets the runs that it was waiting
for, and one that crashed about then would stay Crashed. Nor do they see a run whose worker was
killed before it started. This program asks the server every few seconds and applies the rules of
the automations. `prefect up` keeps it running.
"""

import itertools
import logging
import time
from collections.abc import Iterable

from prefect.client.orchestration import SyncPrefectClient, get_client

from flows.prefect_server.crashed_runs import (
    expect_heartbeats,
    mark_unstarted_as_crashed,
    restart_crashed_runs,
)

_log = logging.getLogger(__name__)

_POLL_S = 5.0
"""Shorter than a server takes to start, so that a restart is noticed."""
_REQUEST_WITHIN_S = 30.0


def main() -> None:
    """Check the server every few seconds, for ever."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    while True:
        recover_while_up(itertools.count())
        time.sleep(_POLL_S)


def recover_while_up(rounds: Iterable[object]) -> None:
    """Check the server this many times, a few seconds apart, for as long as it answers.

    All rounds share one client: a new one for each leaked 10 kB, 8 MB an hour.
    """
    try:
        settings = {"timeout": _REQUEST_WITHIN_S}
        with get_client(httpx_settings=settings, sync_client=True) as client:
            expect_heartbeats(client)  # a server that did not answer may have been restarted
            for _ in rounds:
                recover_once(client)
                time.sleep(_POLL_S)
    except Exception as error:  # noqa: BLE001 - the server may answer the next time
        _log.warning("The server does not answer: %s", error)


def recover_once(client: SyncPrefectClient) -> None:
    """Restart the runs that are due."""
    for name in mark_unstarted_as_crashed(client):
        _log.info("%s: taken by a worker and never started; marked as crashed", name)
    for name in restart_crashed_runs(client):
        _log.info("%s: crashed; restarted", name)


if __name__ == "__main__":
    main()
