"""The watch of one deployment, which supervisord runs beside gateway and engine.

    python -m tasks.serving_watch STATE_DIRECTORY

Outside of core because it notifies Prefect, if PREFECT_API_URL names a server.
"""

import logging
import os
import sys
from pathlib import Path

from tasks.core.serving.observe.incidents import Incident
from tasks.core.serving.observe.watch import DeploymentWatch
from tasks.core.serving.state.directory import StateDirectory

_log = logging.getLogger(__name__)


def main(root: str) -> None:
    """Watch for ever."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    state = StateDirectory(Path(root))
    DeploymentWatch(state, lambda incident: notify_prefect(state.name, incident)).run()


def notify_prefect(name: str, incident: Incident) -> None:
    """Notify Prefect, if a server is configured. An unreachable server does not stop the watch."""
    if "PREFECT_API_URL" not in os.environ:
        return
    try:
        from tasks.notices import incident_notice, send_at_once  # needs Prefect

        send_at_once(incident_notice(name, incident))
    except Exception as error:  # noqa: BLE001 - telling never fails working
        _log.warning("Prefect could not be notified: %s", error)


if __name__ == "__main__":
    main(sys.argv[1])
