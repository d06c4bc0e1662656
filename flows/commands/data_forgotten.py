"""What `kawan-usaha data forget` does in the store, and what it says of it."""

from collections.abc import Iterable
from dataclasses import dataclass

from tasks.core.errors import LockBusy


@dataclass(frozen=True)
class Removed:
    """What went from the store, the models that have learned from it, and what lies elsewhere.

    at_remote are the artifacts of which a remote store has a copy: nothing is removed there by us.
    """

    artifacts: tuple[str, ...]
    models: tuple[str, ...]
    at_remote: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return it for people."""
        told = [f"removed from the store: {name}" for name in self.artifacts]
        told += [f"has learned from it, and stays: {name}" for name in self.models]
        return told + by_hand(self.at_remote)


def by_hand(at_remote: Iterable[str]) -> list[str]:
    """Return the lines that name what lies at the remote store."""
    return [f"to be deleted at the remote store by hand: {name}" for name in at_remote]


def removed_unless_busy() -> tuple[Removed, LockBusy | None]:
    """Return what went from the store; while a run is in progress nothing, and the error for it."""
    try:
        return removed_from_store(), None
    except LockBusy as error:
        return Removed((), (), ()), LockBusy(
            "What was kept is deleted, and what was made of it still stands in the store: a run is "
            "in progress.",
            where=error.where,
            found=error.found,
            next_step="Give the same command once it has ended.",
        )


def removed_from_store() -> Removed:
    """Remove from the store what holds answers that no deployment keeps any more, and tell of it.

    Raises LockBusy while a run is in progress: to be done again then.
    """
    from tasks.core.collected.artifacts import remove_lost
    from tasks.core.collected.copies import copies_at
    from tasks.core.home import home
    from tasks.core.learning.pages import remove_stale_pages
    from tasks.core.store import configured_remote

    remote = configured_remote()
    gone = remove_lost(home())
    remove_stale_pages(home())
    return Removed(gone.artifacts, gone.models, copies_at(remote, gone.artifacts))
