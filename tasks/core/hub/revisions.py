"""A revision of a repository, pinned to one commit: asked once, and without the Hub where allowed.

A full commit needs no question. Anything else is resolved by the Hub, unless the Hub cannot be
reached and the recipe allows the last commit that a run has used. The invariant: everything that
one run learns through a `Revision` is of one commit.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Generic, Protocol, TypeVar

from tasks.core.errors import HubOffline, HubUnavailable, KawanUsahaError
from tasks.core.keys import StageKey
from tasks.core.retry import retrying
from tasks.core.store import Store

WAITS_S = (2.0, 5.0)
"""Before each further attempt to reach the Hub: a run fails within seconds where it cannot."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


class ResolvedRevision(Protocol):
    """What the Hub answers for a revision."""

    @property
    def commit(self) -> str:
        """The commit that the revision names."""


R = TypeVar("R", bound=ResolvedRevision)


@dataclass(frozen=True)
class Known:
    """What a run knows of a revision before it asks the Hub, and how often it asks.

    commit is taken for the revision; last_commit only where the Hub cannot be reached. After each
    of waits_s the Hub is asked once more.
    """

    commit: str | None = None
    last_commit: str | None = None
    waits_s: Sequence[float] = ()


class Revision(Generic[R]):
    """One revision of a repository, at one commit from the first question on. Any thread may ask.

    name is what people call it. resolve asks the Hub for a revision; is_stored says whether the
    store holds what a commit would be downloaded for.
    """

    def __init__(
        self,
        name: str,
        revision: str,
        known: Known,
        *,
        resolve: Callable[[str], R],
        is_stored: Callable[[str], bool],
    ) -> None:
        self.warning: str | None = None
        """What people should know about the commit that was taken."""
        self.resolved: R | None = None
        """The Hub's answer, None while it was not asked."""
        self._name, self._revision, self._known = name, revision, known
        self._resolve, self._is_stored = resolve, is_stored
        self._commit = known.commit or (revision if is_commit(revision) else None)
        self._asking = Lock()

    @property
    def commit(self) -> str:
        """The commit. Raises what resolve raises where it has to be asked for."""
        if self._commit is None:
            try:
                self._commit = self.ask().commit
            except (HubUnavailable, HubOffline) as error:
                self._commit = self._last_commit(error)
        return self._commit

    def ask(self) -> R:
        """Return the Hub's answer at this commit. Raises what resolve raises."""
        with self._asking:
            if self.resolved is None:
                ask = retrying(HubUnavailable, self._known.waits_s)
                self.resolved = ask(self._resolve, self._commit or self._revision)
                self._commit = self.resolved.commit
            return self.resolved

    def _last_commit(self, error: KawanUsahaError) -> str:
        """Return the commit of the last run if the recipe allows it and the store has its files."""
        last = self._known.last_commit
        if last is None or not self._is_stored(last):
            raise _with_ways_out(error) from error
        self.warning = (
            f"{self._name}: the Hub cannot be reached; using {last[:12]}, the last commit that a "
            f"run resolved, as `when_offline` allows. ({error.what})"
        )
        return last


def is_stored(key: StageKey, store: Store) -> bool:
    """Return whether a store has an artifact, or had it before its large files were freed."""
    return (store.root / str(key)).is_dir() or store.freed(str(key)) is not None


def is_commit(revision: str) -> bool:
    """Return whether a revision is a full commit id, which always names the same bytes."""
    return _COMMIT.fullmatch(revision) is not None


def _with_ways_out(error: KawanUsahaError) -> KawanUsahaError:
    """Return the error with what makes later runs independent of the Hub."""
    ways_out = (
        "To run with what the store has: a full commit as revision, or `when_offline: "
        "last-commit` in the recipe."
    )
    next_step = f"{error.next_step} {ways_out}"
    return KawanUsahaError.from_dict({**error.as_dict(), "next_step": next_step})
