"""Restarting the earlier deployment when a new one fails, or adding to the error how to do it."""

import logging
import shutil
from collections.abc import Callable

from tasks.core.errors import KawanUsahaError
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.state.slots import Slot

logger = logging.getLogger(__name__)


def start_once_more(
    state: StateDirectory, earlier: Deployment, error: BaseException, start: Callable[[], None]
) -> None:
    """Restart the earlier deployment, and add the result to the error.

    Not after Ctrl-C: whoever interrupts does not want to wait until a model is loaded.
    """
    again = f"`kawan-usaha start {state.name}` restarts it."
    if not isinstance(error, Exception):
        add(error, f"The earlier deployment was stopped for this one: {again}")
        return
    try:
        start()
    except (KawanUsahaError, OSError) as second:
        reason = second.what if isinstance(second, KawanUsahaError) else str(second)
        add(error, f"The earlier deployment does not serve either: {reason} {again}")
    except BaseException:
        add(error, f"The earlier deployment does not serve: {again}")
        raise
    else:
        logs = f"the logs of the one that failed are in {state.failed_logs}."
        add(error, f"The earlier deployment serves again; {logs}")


def add(error: BaseException, sentence: str) -> None:
    """Add a sentence to the next step of an error."""
    logger.warning("%s", sentence)
    if isinstance(error, KawanUsahaError):
        error.next_step = " ".join(filter(None, (error.next_step, sentence)))
    else:
        error.add_note(sentence)


def keep_log(state: StateDirectory, slot: Slot) -> None:
    """Keep the log of a failed engine where the next start of the slot does not overwrite it."""
    if state.log_of(slot).exists():
        shutil.rmtree(state.failed_logs, ignore_errors=True)
        state.failed_logs.mkdir()
        for log in (state.log_of(slot), state.log_of("supervisord")):
            shutil.copy2(log, state.failed_logs)
