"""What every deployment of this machine keeps: nobody else tidies what stopped ones have.

The invariant: nothing goes here that a running gateway would keep; limits of size are its own.
"""

import logging
from datetime import UTC, datetime
from pathlib import Path

from tasks.core.collected.place import COLLECTED, held
from tasks.core.collected.retention import keep_within
from tasks.core.errors import LockBusy
from tasks.core.files.listing import matching
from tasks.core.recipe.deploy import Collect

_LOG = logging.getLogger(__name__)
_WAIT_S = 30.0


def tidy_everywhere(home: Path) -> None:
    """Delete what is over the time that was promised, or the usual one where nothing was.

    A deployment whose lock is held is left for the next time. Raises OSError.
    """
    for directory in matching(home / "serving", f"*/{COLLECTED}"):
        try:
            with held(directory, "delete what is over its time", wait_s=_WAIT_S):
                keep_within(
                    directory,
                    retention_days=Collect().retention_days,
                    max_bytes=None,
                    today=datetime.now(UTC).date(),
                )
        except LockBusy as error:
            _LOG.warning("left for the next time: %s", error)
