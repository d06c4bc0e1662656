"""One home in which base and delta are merged while they are fetched."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tasks.core.hub.download.artifact import download_source
from tasks.core.hub.download.incoming import IncomingSource
from tasks.core.hub.download.merge_ahead import merge_while_downloading
from tasks.core.hub.download.pinned import PinnedSource
from tasks.core.recipe import Source
from tasks.core.store import Store
from tasks.core.system.threads import pause, run_all
from tasks.core.weights.journal import DIRECTORY
from tasks.core.weights.merge import Contents, merge_delta
from tasks.core.weights.produce import ProducedModel

BASE, DELTA = "warung/base", "warung/delta"
SHARD_BYTES = 500_000


@dataclass
class World:
    """One home, and what a merge in it has done ahead."""

    home: Path
    at_each_wait: Callable[["World"], None] = lambda _: None
    at_its_end: Callable[[], None] = lambda: None
    done: int = 0
    written_before_the_end: int = 0
    recorded_before_the_end: int = 0
    kept: Contents = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.home / "out"

    @property
    def recorded(self) -> int:
        return len(list((self.out / DIRECTORY).glob("*.json")))

    def run(self) -> ProducedModel:
        """Fetch both, merge meanwhile, and merge what is left."""
        store = Store(self.home)
        base, delta = (
            IncomingSource(PinnedSource(Source(repo=repo), store)) for repo in (BASE, DELTA)
        )

        def wait() -> bool:
            if base.artifact and delta.artifact:
                return False
            self.written_before_the_end = self.done
            self.recorded_before_the_end = self.recorded
            self.at_each_wait(self)
            pause(0.01)
            return True

        def report(done: int, total: int) -> None:
            self.done = done

        def work() -> None:
            self.kept = merge_while_downloading(
                base, delta, self.out, max_shard_bytes=SHARD_BYTES, on_progress=report, wait=wait
            )
            self.at_its_end()

        fetches = [
            lambda each=each: download_source(each.pinned, store, incoming=each)
            for each in (base, delta)
        ]
        run_all([*fetches, work], threads=3, name="test", stop=lambda: None)
        return merge_delta(
            base.directory,
            delta.directory,
            self.out,
            max_shard_bytes=SHARD_BYTES,
            contents=(base.contents() or {}, delta.contents() or {}),
            finished=self.kept,
        )
