"""Kept running beside the server by `prefect up`: starts again what the server has missed.

The automations live in the server's memory: one that is killed forgets whom it was waiting for, and
a run that crashed about then would stay Crashed. Nor do they hear of a run whose worker was killed
before it began. This program asks the server itself, every few seconds, and keeps to what the
automations say.
"""

import itertools
import logging
import time
from collections.abc import Iterable

from prefect.client.orchestration import SyncPrefectClient, get_client

from flows.leftovers import await_signs_of_life, declare_unbegun, start_crashed_again

_log = logging.getLogger(__name__)

_POLL_S = 5.0
"""Less than a server takes to start, so that its absence is noticed."""
_REQUEST_WITHIN_S = 30.0


def main() -> None:
    """Look every few seconds, for ever."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    while True:
        keep(itertools.count())
        time.sleep(_POLL_S)


def keep(looks: Iterable[object]) -> None:
    """Look so often, a few seconds apart, for as long as the server answers.

    One client serves all looks: a new one for each left some 10 kB behind, 8 MB an hour.
    """
    try:
        settings = {"timeout": _REQUEST_WITHIN_S}
        with get_client(httpx_settings=settings, sync_client=True) as client:
            await_signs_of_life(client)  # a server that did not answer may have been started anew
            for _ in looks:
                look(client)
                time.sleep(_POLL_S)
    except Exception as error:  # noqa: BLE001 - the next look may find the server again
        _log.warning("The server cannot be asked: %s", error)


def look(client: SyncPrefectClient) -> None:
    """Start again what is due."""
    for name in declare_unbegun(client):
        _log.info("%s was taken by a worker, and never began", name)
    for name in start_crashed_again(client):
        _log.info("%s had crashed and is started again", name)


if __name__ == "__main__":
    main()
