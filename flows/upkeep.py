"""Upkeep flows, for schedules: restart deployments that are down, prune the store."""

from collections.abc import Sequence

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.actions.prune import prune_all
from tasks.core.errors import KawanUsahaError, LockBusy
from tasks.core.home import home
from tasks.core.process.stopping import stop_in_time
from tasks.core.pruning import KEEP_RUNS, Prunable
from tasks.core.serving.observe.healing import Looked, heal
from tasks.core.units import readable
from tasks.notices import Notice, NoticeEvent, notify
from tasks.outbox import flush, show_markdown
from tasks.runtime import explained_failure


@flow(name="serving-watch")
def serving_watch(restart: bool = True) -> State[None] | State[KawanUsahaError]:
    """Ask every deployed model for a token, and restart deployments that are down.

    Fails if a model is down and cannot be restarted.

    Args:
        restart: Restart what is down; otherwise the run only reports it.
    """
    try:
        with stop_in_time():
            looks = heal(home(), restart=restart, say=get_run_logger().info)
    except Exception as error:  # noqa: BLE001 - an unexplained error is raised again
        return explained_failure(error)
    for notice in service_notices(looks):
        notify(notice)
    show_markdown(_table(looks), key="serving", description="Deployments")
    flush()
    troubled = [each for each in looks if each.outcome not in ("healthy", "healed")]
    words = "; ".join(f"{each.name}: {each.outcome}" for each in looks) or "Nothing is deployed."
    return Failed(message=words) if troubled else Completed(message=words)


@flow(name="store-prune")
def store_prune(
    keep_runs: int = KEEP_RUNS, unfinished: bool = False, dry_run: bool = True
) -> State[None] | State[KawanUsahaError]:
    """Remove from the store what no recent rebuild, unfinished rebuild or deployment uses.

    Also deletes collected answers past their retention, those of stopped deployments included.
    Ends as `Skipped` while a rebuild is running.

    Args:
        keep_runs: Keep what this many finished rebuilds and releases of each recipe use.
        unfinished: Also remove unfinished work, such as checkpoints and partial downloads.
        dry_run: Only list what would be removed.
    """
    try:
        with stop_in_time():
            pruned = prune_all(keep_runs=keep_runs, unfinished=unfinished, dry_run=dry_run)
    except LockBusy as error:
        return Completed(name="Skipped", message=f"A rebuild is running: {error.found}.")
    except Exception as error:  # noqa: BLE001 - an unexplained error is raised again
        return explained_failure(error)
    found, at_remote = pruned.found, pruned.at_remote
    show_markdown(_list(found, at_remote), key="room", description="Removed from the store")
    flush()
    word = "would be freed" if dry_run else "freed"
    message = f"{readable(found.freed_bytes)} {word}, {len(found.items)} items."
    if at_remote:
        message += f" To be deleted at the remote store by hand: {', '.join(at_remote)}."
    return Completed(message=message)


def service_notices(looks: Sequence[Looked]) -> list[Notice]:
    """Return one notice for each service that is or was down, none for those that answer."""
    notices = []
    for each in looks:
        if each.outcome == "healed":
            title, what = f"{each.name}: was down, serves again", NoticeEvent.HEALED
        elif each.outcome != "healthy":
            title, what = f"{each.name}: is down", NoticeEvent.DOWN
        else:
            continue
        facts = {"outcome": each.outcome}
        notices.append(Notice(what, "service", each.name, title, each.words, facts))
    return notices


def _table(looks: list[Looked]) -> str:
    rows = [f"| {each.name} | {each.outcome} | {_in_a_cell(each.words)} |" for each in looks]
    return "\n".join(["| deployment | outcome | found |", "|---|---|---|", *rows])


def _list(found: Prunable, at_remote: Sequence[str]) -> str:
    lines = [f"- {item}" for item in found.items] or ["Nothing."]
    held = [f"- {item}" for item in found.held]
    if at_remote:
        lines += ["", "To be deleted at the remote store by hand:", ""]
        lines += [f"- {name}" for name in at_remote]
    return "\n".join([*lines, *(["", "Kept for unfinished work:", "", *held] if held else [])])


def _in_a_cell(words: str) -> str:
    return words.replace("\n", " ").replace("|", "\\|")
