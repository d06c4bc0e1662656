"""Upkeep as flows, for schedules: the deployments that serve, and the room in the store."""

from collections.abc import Sequence

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.notices import of_services
from tasks.core.collected.copies import copies_at
from tasks.core.collected.everywhere import tidy_everywhere
from tasks.core.errors import KawanUsahaError, LockBusy
from tasks.core.home import home
from tasks.core.learning.pages import remove_stale_pages
from tasks.core.process.stopping import stop_in_time
from tasks.core.pruning import KEEP_RUNS, Prunable, prunable, prune_store
from tasks.core.serving.observe.healing import Looked, heal
from tasks.core.store import configured_remote
from tasks.core.units import readable
from tasks.notices import notify
from tasks.runtime import explained_failure
from tasks.telling import flush, show_markdown


@flow(name="serving-watch")
def serving_watch(restart: bool = True) -> State[None] | State[KawanUsahaError]:
    """Ask every deployed model for a token, and start again what is down.

    Fails when a model is down and cannot be started.

    Args:
        restart: Start again what is down; otherwise the run only reports it.
    """
    try:
        with stop_in_time():
            looks = heal(home(), restart=restart, say=get_run_logger().info)
    except Exception as error:  # noqa: BLE001 - whatever nobody knows is raised again
        return explained_failure(error)
    for notice in of_services(looks):
        notify(notice)
    show_markdown(_table(looks), key="serving", description="What serves")
    flush()
    troubled = [each for each in looks if each.outcome not in ("healthy", "healed")]
    words = "; ".join(f"{each.name}: {each.outcome}" for each in looks) or "Nothing is deployed."
    return Failed(message=words) if troubled else Completed(message=words)


@flow(name="store-prune")
def store_prune(
    keep_runs: int = KEEP_RUNS, unfinished: bool = False, dry_run: bool = True
) -> State[None] | State[KawanUsahaError]:
    """Remove from the store what neither the last rebuilds, nor unfinished ones, nor a service use.

    Collected answers that are over their time go too, also those of stopped deployments.

    Ends as `Skipped` while a rebuild is at work.

    Args:
        keep_runs: Keep what this many finished rebuilds and releases of each recipe use.
        unfinished: Remove unfinished work too, checkpoints and partial downloads included.
        dry_run: Only show what would go.
    """
    act = prunable if dry_run else prune_store
    try:
        with stop_in_time():
            remote = configured_remote()  # before anything goes: its URL may be no good
            if not dry_run:
                tidy_everywhere(home())
            found = act(home(), keep_runs=keep_runs, unfinished=unfinished)
            if not dry_run:
                remove_stale_pages(home())
            at_remote = copies_at(remote, found.deleted)
    except LockBusy as error:
        return Completed(name="Skipped", message=f"A rebuild is at work: {error.found}.")
    except Exception as error:  # noqa: BLE001 - whatever nobody knows is raised again
        return explained_failure(error)
    show_markdown(_list(found, at_remote), key="room", description="What goes from the store")
    flush()
    word = "would be freed" if dry_run else "freed"
    message = f"{readable(found.freed_bytes)} {word}, {len(found.items)} items."
    if at_remote:
        message += f" To be deleted at the remote store by hand: {', '.join(at_remote)}."
    return Completed(message=message)


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
