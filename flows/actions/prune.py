"""Prune the store and the collected answers, for the command and for the flow of upkeep."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.core.collected.privacy.all_deployments import tidy_everywhere
from tasks.core.collected.remote_copies import copies_at
from tasks.core.home import home
from tasks.core.learning.page_files import remove_stale_pages
from tasks.core.pruning import Prunable, prunable, prune_store
from tasks.core.store import configured_remote


@dataclass(frozen=True)
class Pruned:
    """What was removed or would be, and what remains to be deleted at the remote store by hand."""

    found: Prunable
    at_remote: Sequence[str]


def prune_all(*, keep_runs: int, unfinished: bool, dry_run: bool) -> Pruned:
    """Remove what nothing needs, or only find it. Raises LockBusy while a rebuild is running."""
    remote = configured_remote()  # first: its URL may be invalid
    if not dry_run:
        tidy_everywhere(home())
    act = prunable if dry_run else prune_store
    found = act(home(), keep_runs=keep_runs, unfinished=unfinished)
    if not dry_run:
        remove_stale_pages(home())
    return Pruned(found, copies_at(remote, found.deleted))
