"""When a new deployment fails: the earlier one again, or in the error's words what to do for it."""

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
    """Start the earlier deployment again, and add to the error what became of it.

    Not after Ctrl-C: whoever stops does not want to wait until a model is loaded.
    """
    again = f"`kawan-usaha start {state.name}` starts it again."
    if not isinstance(error, Exception):
        add(error, f"The earlier deployment was ended for this one: {again}")
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
    """Add a sentence to what an error says of the next step."""
    logger.warning("%s", sentence)
    if isinstance(error, KawanUsahaError):
        error.next_step = " ".join(filter(None, (error.next_step, sentence)))
    else:
        error.add_note(sentence)


def keep_log(state: StateDirectory, slot: Slot) -> None:
    """Keep the log of an engine that failed, where the next start of the slot leaves it alone."""
    if state.log_of(slot).exists():
        shutil.rmtree(state.failed_logs, ignore_errors=True)
        state.failed_logs.mkdir()
        for log in (state.log_of(slot), state.log_of("supervisord")):
            shutil.copy2(log, state.failed_logs)
