"""Skip a scheduled run while the same recipe is being rebuilt.

The store's locks tell, which the kernel frees, and not Prefect's concurrency limits: those are
leases in the memory of the server, and restarting it would end healthy runs. A run that somebody
started by hand is never skipped: it waits, and reuses what the other run has built.
"""

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Completed

from tasks.core.home import home
from tasks.core.machine.activity import running_work


def skipped_if_running(recipe: str) -> State[None] | None:
    """Return the state that ends this run if it is scheduled and the recipe is being rebuilt."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or not context.flow_run.auto_scheduled:
        return None
    rebuilds = [each for each in running_work(home()) if each.what == f"rebuild {recipe}"]
    if not rebuilds:
        return None
    first_line = str(rebuilds[0]).splitlines()[0]
    return Completed(name="Skipped", message=f"This recipe is being rebuilt. {first_line}")
