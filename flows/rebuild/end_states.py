"""The state in which a run ends, and the notice of it."""

from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.rebuild.notices import failure_notice, success_notice
from flows.rebuild.run_summary import RunSummary, outcome_line
from tasks.core.errors import KawanUsahaError
from tasks.explain import known_failure
from tasks.notices import is_subflow, notify
from tasks.outbox import flush
from tasks.runtime import explained_failure


def completed_state(summary: RunSummary) -> State[RunSummary]:
    """Send the notice of a successful run, and return its state with the outcome as message."""
    if not is_subflow():
        notify(success_notice(summary))
    flush()
    return Completed(message=outcome_line(summary), data=summary)


def failed_state(recipe: str, error: Exception) -> State[KawanUsahaError]:
    """Send the notice of a failed run, and return its state. Raises an unexplained error."""
    notify(failure_notice(recipe, known_failure(error) or error))
    flush()
    return explained_failure(error)
