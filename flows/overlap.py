"""A scheduled run that comes while the same recipe is being rebuilt has nothing to do.

Known by the store's locks, which the kernel frees, and not by Prefect's concurrency limits: those
are leases in the memory of the server, whose restart would end healthy runs. A run that somebody
started by hand is never skipped: it waits, and takes over what the other one has made.
"""

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Completed

from tasks.core.home import home
from tasks.core.machine.activity import running_work


def skipped(recipe: str) -> State[None] | None:
    """Return the state that ends this run, if it is scheduled and the recipe is at work already."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or not context.flow_run.auto_scheduled:
        return None
    at_work = [each for each in running_work(home()) if each.what == f"rebuild {recipe}"]
    if not at_work:
        return None
    head = str(at_work[0]).splitlines()[0]
    return Completed(name="Skipped", message=f"Another run is at it. {head}")
