"""The sources of one run: base, delta and data sets, each repository at one commit.

A run that is tried again is given the commits of its first attempt; a new run resolves branches
and tags anew.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.core.hub.download.dataset import PinnedDataSet, recorded_name
from tasks.core.hub.download.pinned import PinnedSource
from tasks.core.hub.revisions import WAITS_S, Known
from tasks.core.recipe import Recipe, Source
from tasks.core.recipe.data import DataSource
from tasks.core.store import Store
from tasks.core.store.runs import RunRecords


@dataclass(frozen=True)
class Sources:
    """Base and delta of one run, and the data sets on the Hub that it trains on."""

    base: PinnedSource
    delta: PinnedSource | None
    data: tuple[PinnedDataSet, ...] = ()

    @classmethod
    def of(cls, recipe: Recipe, home: Path, commits: Mapping[str, str] | None = None) -> "Sources":
        """Return the sources of a recipe, for a run that has taken these commits already.

        Without commits it is for no run, and a Hub that cannot be reached is not asked again.
        """
        store, known = Store(home), _Knowing(recipe, RunRecords(home), commits)

        def pinned(source: Source) -> PinnedSource:
            return PinnedSource(source, store, known.of(str(source)))

        learned_from = recipe.finetune.data if recipe.finetune is not None else ()
        return cls(
            pinned(recipe.base),
            pinned(recipe.delta) if recipe.delta else None,
            tuple(_data_sets([each for each in learned_from if each.repo], store, known)),
        )

    def __iter__(self) -> Iterator[PinnedSource]:
        yield from (each for each in (self.base, self.delta) if each is not None)

    @property
    def commits(self) -> dict[str, str]:
        """The commit of each repository, by its name in the recipe; asked for where unknown."""
        models = {str(each.source): commit for each in self if (commit := each.commit) is not None}
        return models | {recorded_name(each.source): each.commit for each in self.data}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What people should know about the commits that were taken."""
        found = (each.warning for each in (*self, *self.data) if each.warning is not None)
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class _Knowing:
    """What a run knows of each revision before it asks the Hub."""

    recipe: Recipe
    records: RunRecords
    commits: Mapping[str, str] | None

    def of(self, name: str) -> Known:
        allows_last = self.recipe.when_offline == "last-commit"
        return Known(
            commit=(self.commits or {}).get(name),
            last_commit=self.records.last_commit(name) if allows_last else None,
            waits_s=() if self.commits is None else WAITS_S,
        )


def _data_sets(sources: list[DataSource], store: Store, known: _Knowing) -> Iterator[PinnedDataSet]:
    first: dict[str, PinnedDataSet] = {}
    for each in sources:
        name = recorded_name(each)
        data_set = PinnedDataSet(each, store, known.of(name), same=first.get(name))
        first.setdefault(name, data_set)
        yield data_set
