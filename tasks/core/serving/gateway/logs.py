"""The log of the gateway's process: lines on standard output; supervisord keeps them."""

import logging
import sys

LOG = logging.getLogger("tasks.core.serving.gateway")


def start_log() -> None:
    """Write the gateway's own lines, and the warnings of others: httpx logs every request."""
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    LOG.setLevel(logging.INFO)
