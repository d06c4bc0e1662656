"""Kept running beside the server by `prefect up`: starts again what the server has missed.

The automations live in the server's memory: one that is killed forgets whom it was waiting for, and
a run that crashed about then would stay Crashed. Nor do they hear of a run whose worker was killed
before it began. This program asks the server itself, every few seconds, and keeps to what the
automations say.
"""

import logging
import time

from prefect.client.orchestration import get_client

from flows.leftovers import await_signs_of_life, declare_unbegun, start_crashed_again

_log = logging.getLogger(__name__)

_POLL_S = 5.0
"""Less than a server takes to start, so that its absence is noticed."""
_REQUEST_WITHIN_S = 30.0


def main() -> None:
    """Look every few seconds, for ever."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    is_known = False
    while True:
        is_known = look(is_known=is_known)
        time.sleep(_POLL_S)


def look(*, is_known: bool) -> bool:
    """Start again what is due; return whether the server has answered.

    is_known tells whether it did so last time: one that did not may have been started anew.
    """
    try:
        settings = {"timeout": _REQUEST_WITHIN_S}
        with get_client(httpx_settings=settings, sync_client=True) as client:
            if not is_known:
                await_signs_of_life(client)
            for name in declare_unbegun(client):
                _log.info("%s was taken by a worker, and never began", name)
            for name in start_crashed_again(client):
                _log.info("%s had crashed and is started again", name)
    except Exception as error:  # noqa: BLE001 - the next look may find the server again
        _log.warning("The server cannot be asked: %s", error)
        return False
    return True


if __name__ == "__main__":
    main()
