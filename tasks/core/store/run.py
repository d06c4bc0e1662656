"""The store as one rebuild sees it: recorded, and with inputs that may be freed and restored.

A `RunStore` records every artifact that the run asks for before it is begun. With `keep: released`
it frees an input once no later stage needs it, and treats a freed artifact as done: its digest and
facts are known, which is all that keys and cached stages need. Only when a stage that really runs
has to read a freed artifact is it restored (`restoring.py`).

The invariant: an artifact is never freed while another recipe's unfinished run or last rebuild
keeps it, after any recipe has released it, or while it is being served.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from tasks.core.errors import StageMissing, StorageUnavailable
from tasks.core.keys import StageKey
from tasks.core.signing import SigningKey
from tasks.core.store.links import gains
from tasks.core.store.releases import share_release
from tasks.core.store.remote import RemoteStore
from tasks.core.store.restoring import Restoring
from tasks.core.store.run_record import OpenRun, RunRecord
from tasks.core.store.runs import RunRecords
from tasks.core.store.shelf import Artifact
from tasks.core.store.staging import Staging
from tasks.core.store.store import Built, Store, Work

logger = logging.getLogger(__name__)

FETCHED_AT_ONCE_BYTES = 64 << 20
"""Artifacts of this size or more are fetched from a remote store only when a stage reads them."""
WORTH_FREEING = 0.1
"""Share of an artifact's bytes up to which freeing it gains nothing: the rest is shared."""


class RunStore(Store):
    """A store that knows what one run needs."""

    def __init__(
        self,
        home: Path,
        run: OpenRun,
        *,
        in_use: Callable[[], set[str]] = set,
        say: Callable[[str], None] = logger.info,
        waits: Callable[[str], None] | None = None,
        finished: Collection[str] = (),
        remote: RemoteStore | None = None,
        key: SigningKey | None = None,
    ) -> None:
        """Record under run. in_use names the artifacts that are served now.

        say gets a line for what is freed and restored; waits, for each lock that this run waits
        for, by default say. finished names the stages of which nothing is built: what they have
        made must be there.
        """
        purpose = f"rebuild {run.record.recipe}"
        super().__init__(home, purpose, say, waits=waits, remote=remote, key=key)
        self._records = RunRecords(home)
        self._run = run
        self._in_use = in_use
        self._finished = frozenset(finished)
        self._restoring = Restoring(self, say, None if remote is None else remote.url)
        self._spent: list[str] = []

    @property
    def record(self) -> RunRecord:
        """The run, as it is recorded so far."""
        return self._run.record

    def _build(self, work: Work) -> Built:
        """Return the artifact of this key, also a freed one, whose files are not there.

        Raises StageMissing where it would have to be built but its stage is finished.
        """
        name = str(work.key)
        self._run.add(name)
        done = work
        if work.key.stage in self._finished:
            done = replace(work, write=_refuse_to_build(work.key), needs=(), before=None)
        build = super()._build
        self._restoring.remember(name, lambda: build(done).artifact, work.needs)
        freed = self.freed(name) or self._left_there(name, work.wait_s)
        if freed is not None and not self.path_of(work.key).exists():
            return Built(freed, cached=True)
        return build(done)

    @contextmanager
    def present(self, names: Sequence[str]) -> Iterator[None]:
        """Have these artifacts complete during the block, restoring those that were freed."""
        while True:
            self._restoring.restore(self._restoring.missing(names))
            with super().present(names):
                if not self._restoring.missing(names):
                    yield
                    return

    def _left_there(self, name: str, wait_s: float) -> Artifact | None:
        """Return a large artifact that only the remote store has, whose files are not fetched yet.

        None for any other. Like a freed one it is fetched once a stage reads it, so that a machine
        fetches what it works on and not everything that was made on the way.
        """
        if self._sharing is None or (self.root / name).exists():
            return None
        with self._locked(name, "look for", wait_s=wait_s):
            if (self.root / name).exists() or (found := self._sharing.find(name)) is None:
                return None
            if found.manifest.size_bytes < FETCHED_AT_ONCE_BYTES:
                return None
            self._sharing.leave_there(found)
            return self.freed(name)

    # --- what the run uses and releases ---------------------------------------------------------

    def use(self, name: str) -> None:
        """Record an artifact that the run needs and does not build."""
        self._run.add(name)

    def release(
        self,
        name: str,
        forced: str | None = None,
        *,
        signed_by: str | None = None,
        signature_sha256: str | None = None,
        recipe: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Record that this artifact is released, and tell the machines of the remote store.

        recipe is the one that it was built by; signed_by and signature_sha256 are the signature
        that it was published with, if it was. Raises StorageRefused, and StorageUnavailable unless
        the others know this release from an earlier run.
        """
        is_known = self._records.releases(self.record.recipe)[:1] == [name]
        self._run.release(
            name,
            forced,
            signed_by=signed_by,
            signature_sha256=signature_sha256,
            recipe=recipe,
        )
        if self._sharing is None:
            return
        try:
            share_release(self._sharing.remote, self._run, self._records)
        except StorageUnavailable as error:
            if not is_known:
                raise
            self._say(f"{name}: released again; other machines are not told: {error.what}")

    def finish(self) -> None:
        """Record that the run is done; earlier runs that it supersedes protect nothing more."""
        self._run.finish()
        self._free_spent()

    # --- what it frees --------------------------------------------------------------------------

    def done_with(self, *names: str) -> None:
        """Free these artifacts, which no later stage needs, if the recipe keeps no inputs."""
        if self._run.record.keep == "released":
            self._spent += [name for name in names if name not in self._spent]
            self._free_spent()

    def _free_spent(self) -> None:
        kept = self._protected()
        names = [n for n in self._spent if n not in kept and (self.root / n).is_dir()]
        paths = [self.root / name for name in names]
        for name, gain in zip(names, gains(paths), strict=True):
            if gain.gone_bytes <= WORTH_FREEING * gain.size_bytes:
                continue
            try:
                freed = self.free(name)
            except OSError as error:  # saving space must not fail the run
                self._say(f"{name} cannot be freed: {error}")
                continue
            if freed:
                size = f"{gain.freed_bytes / 1e6:,.1f} MB"
                self._say(f"{name}: freed {size}, no later stage needs it (keep: released)")

    def _protected(self) -> set[str]:
        """Return what must not be freed, even when this run is done with it.

        An unfinished run of the very same recipe does not count, because this run does its work.
        """
        mine = self._run.record
        names = self._in_use() | self._records.named_in_damaged()
        names |= {r.released for r in self._records.all() if r.released is not None}
        for record in self._records.unfinished():
            if not _same_recipe(record, mine):
                names.update(record.artifacts)
        for record in self._records.last(1):
            if record.recipe != mine.recipe and record.keep == "all":
                names.update(record.artifacts)
        return names


def _refuse_to_build(key: StageKey) -> Callable[[Staging], None]:
    def write(staging: Staging) -> None:
        with suppress(OSError):  # it stays where it holds what an earlier attempt has made
            staging.path.rmdir()
        raise StageMissing(
            f"{key.stage} is not finished, and this run begins after it.",
            where=staging.path.parent.parent,
            expected=f"{key}, which this recipe makes of what its sources hold now",
            next_step=f"Begin at {key.stage}, or run without a first stage: what is finished is "
            "reused.",
        )

    return write


def _same_recipe(one: RunRecord, other: RunRecord) -> bool:
    return (one.recipe, one.recipe_digest) == (other.recipe, other.recipe_digest)
