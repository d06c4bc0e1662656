"""Retention for every deployment of this machine, as stopped ones have no gateway to apply it.

The invariant: nothing is deleted that a running gateway would keep; only gateways limit the size.
"""

import logging
from datetime import UTC, datetime
from pathlib import Path

from tasks.core.collected.privacy.retention import keep_within
from tasks.core.collected.storage.directory import COLLECTED, directory_lock
from tasks.core.errors import LockBusy
from tasks.core.files.listing import matching
from tasks.core.recipe.deploy import Collect

_LOG = logging.getLogger(__name__)
_WAIT_S = 30.0


def tidy_everywhere(home: Path) -> None:
    """Delete answers whose promised retention has ended, or the default one if none was promised.

    A deployment whose lock is held is left for the next call. Raises OSError.
    """
    for directory in matching(home / "serving", f"*/{COLLECTED}"):
        try:
            with directory_lock(directory, "delete what is over its time", wait_s=_WAIT_S):
                keep_within(
                    directory,
                    retention_days=Collect().retention_days,
                    max_bytes=None,
                    today=datetime.now(UTC).date(),
                )
        except LockBusy as error:
            _LOG.warning("left for the next time: %s", error)
