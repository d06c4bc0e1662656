"""The flow `learn-watch`: reports to Prefect when enough was reviewed to learn from.

Reviews are written where the model serves, by a process without Prefect. So a small run on that
machine counts them, once its schedule is switched on, and sends the event `kawan-usaha.reviewed`.
An automation then starts the deployment `learn` with the recipe that the event names.
"""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.form import MinWaiting
from tasks.core.errors import KawanUsahaError
from tasks.core.home import home
from tasks.core.learning.pending import PendingReviews, pending_reviews
from tasks.core.machine.activity import running_work
from tasks.core.process.stopping import stop_in_time
from tasks.notices import Notice, NoticeEvent, notify
from tasks.outbox import flush
from tasks.runtime import explained_failure


@flow(name="learn-watch")
def learn_watch(min_new: MinWaiting = 50) -> State[None] | State[KawanUsahaError]:
    """Report each released recipe with enough reviewed answers that it has not learned yet.

    Args:
        min_new: How many accepted answers that no run has learned are enough.
    """
    try:
        with stop_in_time():
            found = list(pending_reviews(home()))
            at_work = {each.what for each in running_work(home())}
    except Exception as error:  # noqa: BLE001 - an unexplained error is raised again
        return explained_failure(error)
    enough = [each for each in found if each.new >= min_new]
    for each in enough:
        if not at_work & {f"rebuild {each.recipe}", f"learn {each.recipe}"}:
            notify(reviewed_notice(each))
    flush()
    words = "; ".join(map(str, found)) or "No deployment of a released recipe collects answers."
    return Completed(name=None if enough else "Skipped", message=words)


def reviewed_notice(found: PendingReviews) -> Notice:
    """Return the event that a recipe has enough to learn."""
    return Notice(
        NoticeEvent.REVIEWED,
        "recipe",
        found.recipe,
        f"{found.recipe}: {found.new} new reviewed conversations",
        str(found),
        {"new": found.new, "answers": found.answers},
    )
