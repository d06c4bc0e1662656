"""The store as one rebuild sees it: recorded, and with inputs that may be freed and made again.

A `RunStore` records every artifact that the run asks for before it is begun. With `keep: released`
it frees an input once no later stage needs it, and takes a freed artifact for made: its digest and
facts are known, which is all that keys and cached stages need. Only when a stage that really runs
has to read a freed artifact is it made again, with its own inputs, and that is said first.

The invariant: what another recipe's unfinished run or its last rebuild keeps, what any recipe has
released, and what is being served is never freed.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from tasks.core.errors import CorruptArtifact, StageMissing, StorageUnavailable
from tasks.core.files.locks import WAIT_S
from tasks.core.keys import StageKey
from tasks.core.store.links import gains
from tasks.core.store.releases import share_release
from tasks.core.store.remote import Remote
from tasks.core.store.runs import OpenRun, RunRecord, RunRecords
from tasks.core.store.shelf import Artifact
from tasks.core.store.staging import Staging
from tasks.core.store.store import Built, Store

if TYPE_CHECKING:
    from tasks.core.signing import SigningKey

logger = logging.getLogger(__name__)

FETCHED_AT_ONCE_BYTES = 64 << 20
"""The size from which on an artifact is fetched from a remote store only when a stage reads it."""
WORTH_FREEING = 0.1
"""Share of an artifact's bytes below which freeing it gains nothing: the rest is shared."""


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
        remote: Remote | None = None,
        key: "SigningKey | None" = None,
    ) -> None:
        """Record under run. in_use names the artifacts that are served now.

        say is told what is freed and made again; waits, what this run waits for, by default say.

        finished names the stages of which nothing is built: what they have made must be there.
        """
        purpose = f"rebuild {run.record.recipe}"
        super().__init__(home, purpose, say, waits=waits, remote=remote, key=key)
        self._records = RunRecords(home)
        self._run = run
        self._in_use = in_use
        self._finished = frozenset(finished)
        self._again: dict[str, Callable[[], Built]] = {}
        self._needs: dict[str, tuple[str, ...]] = {}
        self._spent: list[str] = []
        self._announced: set[str] = set()

    @property
    def record(self) -> RunRecord:
        """The run, as it is recorded so far."""
        return self._run.record

    def build(
        self,
        key: StageKey,
        write: Callable[[Staging], None],
        *,
        params: object = None,
        inputs: Mapping[str, str] | None = None,
        needs: Sequence[str] = (),
        before: Callable[[Staging], None] | None = None,
        wait_s: float = WAIT_S,
    ) -> Built:
        """Return the artifact of this key, also a freed one, whose files are not there.

        Raises StageMissing where it would have to be built, and its stage is to be finished.
        """
        name = str(key)
        self._run.add(name)
        self._needs[name] = tuple(needs)
        if key.stage in self._finished:
            write, needs, before = _refuse_to_build(key), (), None

        def again() -> Built:
            return super(RunStore, self).build(
                key,
                write,
                params=params,
                inputs=inputs,
                needs=needs,
                before=before,
                wait_s=wait_s,
            )

        self._again[name] = again
        freed = self.freed(name) or self._left_there(name, wait_s)
        if freed is not None and not self.path_of(key).exists():
            return Built(freed, cached=True)
        return again()

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

        With the recipe that it was built by, and the signature that it was published with, if it
        was. Raises StorageRefused, and
        StorageUnavailable where they do not know it from a run before.
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
            self._say(f"{name}: released again, which other machines are not told: {error.what}")

    def done_with(self, *names: str) -> None:
        """Free these artifacts, which no later stage needs, where the recipe keeps no inputs."""
        if self._run.record.keep == "released":
            self._spent += [name for name in names if name not in self._spent]
            self._free_spent()

    def finish(self) -> None:
        """Record that the run is done; earlier runs that it supersedes protect nothing more."""
        self._run.finish()
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
            except OSError as error:  # what only saves room must not fail what works
                self._say(f"{name} cannot be freed: {error}")
                continue
            if freed:
                size = f"{gain.freed_bytes / 1e6:,.1f} MB"
                self._say(f"{name}: freed {size}, no later stage needs it (keep: released)")

    def _protected(self) -> set[str]:
        """Return what must not be freed, whatever this run is done with.

        An unfinished run of the very same recipe does not count: this run does its work.
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

    @contextmanager
    def present(self, names: Sequence[str]) -> Iterator[None]:
        """Have these artifacts whole during the block, making again those that were freed."""
        while True:
            missing = [name for name in names if self._is_freed(name)]
            self._restore(missing)
            with super().present(names):
                if not any(self._is_freed(name) for name in names):
                    yield
                    return

    def _left_there(self, name: str, wait_s: float) -> Artifact | None:
        """Return a large artifact that only the remote store has, whose files are not fetched yet.

        None for any other. Like a freed one it is brought here once a stage reads it, so that a
        machine fetches what it works on and not all that it was made of.
        """
        if self._sharing is None or (self.root / name).exists():
            return None
        with self._locked(name, "look for", wait_s=wait_s):
            if (self.root / name).exists() or (found := self._sharing.find(name)) is None:
                return None
            if found.manifest.size_bytes < FETCHED_AT_ONCE_BYTES:
                return None
            return self.freed(name) if self._sharing.leave_there(found) else None

    def _is_freed(self, name: str) -> bool:
        return not (self.root / name).exists() and self.freed(name) is not None

    def _restore(self, names: Sequence[str]) -> None:
        self._announce(names)
        for name in names:
            before = self.freed(name)
            if name not in self._again:
                raise CorruptArtifact(
                    "An artifact that this stage reads was freed, and this run cannot make it.",
                    where=self.root / name,
                    next_step="Run again.",
                )
            made = self._again[name]().artifact
            if before is not None and made.digest != before.digest:
                raise CorruptArtifact(
                    "An artifact that was freed came out differently when it was made again.",
                    where=made.path,
                    expected=f"content {before.digest[:20]}",
                    found=f"content {made.digest[:20]}",
                    next_step="Run again: the stages after it are then made from what is there.",
                )

    def _announce(self, names: Sequence[str]) -> None:
        """Say once what making these and their inputs again takes, by what it took before."""
        wanted: dict[str, Artifact] = {}
        queue = list(names)
        while queue:
            name = queue.pop(0)
            freed = self.freed(name)
            if name not in self._announced and freed is not None and self._is_freed(name):
                wanted[name] = freed
                self._announced.add(name)
                if self._sharing is None:  # what is fetched needs nothing else
                    queue += self._needs.get(name, ())
        if not wanted:
            return
        size = sum(artifact.manifest.size_bytes for artifact in wanted.values())
        wall_s = sum(artifact.manifest.wall_s for artifact in wanted.values())
        again = (
            f"Making it again writes up to {size / 1e6:,.1f} MB and took {wall_s:,.0f} s the first "
            "time."
        )
        if self._sharing is None:
            self._say(f"Freed by an earlier run and needed now: {', '.join(wanted)}. {again}")
        else:
            url = self._sharing.remote.url
            self._say(f"Not here and needed now: {', '.join(wanted)}. Unless {url} has it: {again}")


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
