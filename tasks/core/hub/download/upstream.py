"""The sources of one run: each repository at one commit, asked once, and only when it must be.

What the store holds at that commit needs no network. A run that is tried again is given the commits
of its first attempt; a new run resolves branches and tags anew. The invariant: everything that one
run learns of a source is of one commit.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TypedDict, TypeVar

from pydantic import JsonValue

from tasks.core.errors import CorruptArtifact, HubOffline, HubUnavailable, KawanUsahaError
from tasks.core.files.foreign import JsonObject, read_json_object
from tasks.core.files.temporary import scratch_directory
from tasks.core.hub.client import api, translated
from tasks.core.hub.download.dataset_source import DataSet, recorded_name
from tasks.core.hub.download.local_copy import choose_from_directory, directory_identity
from tasks.core.hub.download.model import ResolvedModel, resolve
from tasks.core.hub.revisions import PAUSES_S, gone_on_with, is_commit, with_ways_out
from tasks.core.keys import StageKey, stage_key
from tasks.core.model.config import read_config
from tasks.core.model.template_record import TEMPLATE_RECORD, recorded_template
from tasks.core.recipe import Recipe, Source
from tasks.core.store import Store
from tasks.core.store.manifest import freed_place, read_manifest
from tasks.core.store.runs import RunRecords
from tasks.core.system.threads import pause

T = TypeVar("T")

STAGE = "download"
VERSION = 2


class Upstream:
    """One source, at one commit once anybody has needed to know it.

    Every question raises what `resolve` raises where the answer is not in the store.
    """

    def __init__(
        self,
        source: Source,
        store: Store,
        *,
        commit: str | None = None,
        last_commit: str | None = None,
        pauses_s: Sequence[float] = (),
    ) -> None:
        """Take commit for the source's revision; last_commit only where the Hub does not answer.

        After each of pauses_s it is asked once more.
        """
        self.source = source
        self.warning: str | None = None
        """What to tell people about the commit that is taken."""
        self._store = store
        self._commit = commit or (source.revision if is_commit(source.revision) else None)
        self._last_commit = last_commit
        self._pauses_s = tuple(pauses_s)
        self._model: ResolvedModel | None = None
        self._asking = Lock()

    @property
    def commit(self) -> str | None:
        """The commit that the revision names, None for a directory."""
        if self.source.repo is not None and self._commit is None:
            try:
                self._commit = self.model().commit
            except (HubUnavailable, HubOffline) as error:
                self._commit = self._without_the_hub(error)
        return self._commit if self.source.repo is not None else None

    @property
    def params(self) -> dict[str, JsonValue]:
        """What decides the bytes of the source: its commit, or the state of its directory."""
        if self.source.directory is not None:
            return {"directory_state": directory_identity(self.source.directory)}
        return {"repo": self.source.repo, "commit": self.commit}

    @property
    def key(self) -> StageKey:
        """The key of the download."""
        return stage_key(STAGE, VERSION, self.params)

    def model(self) -> ResolvedModel:
        """Return the files to take from the Hub at this commit."""
        with self._asking:
            if self._model is None:
                self._model = self._resolved()
                self._commit = self._model.commit
            return self._model

    def config(self) -> JsonObject:
        """Return the source's config.json."""
        if self.source.directory is not None:
            choose_from_directory(self.source.directory)
            return read_config(self.source.directory)
        here = self._small_files()
        return read_config(here) if here else self._file("config.json", read_json_object)

    def template(self) -> str | None:
        """Return the conversation template that the source records, None where it records none."""
        here = self.source.directory or self._small_files()
        if here is not None:
            return recorded_template(here)
        if TEMPLATE_RECORD not in {file.path for file in self.model().files}:
            return None
        return self._file(TEMPLATE_RECORD, lambda path: recorded_template(path.parent))

    @property
    def is_here(self) -> bool:
        """Whether the store has the download, or had it before it was freed."""
        return self._small_files() is not None

    def size_bytes(self) -> int:
        """Return the bytes of the files that a download takes."""
        if self.source.directory is not None:
            names = choose_from_directory(self.source.directory)
            return sum((self.source.directory / name).stat().st_size for name in names)
        here = self._small_files()
        manifest = read_manifest(here) if here else None
        return self.model().size_bytes if manifest is None else manifest.size_bytes

    def _resolved(self) -> ResolvedModel:
        repo, revision = str(self.source.repo), self._commit or self.source.revision
        for pause_s in self._pauses_s:
            try:
                return resolve(repo, revision)
            except HubUnavailable:
                pause(pause_s)
        return resolve(repo, revision)

    def _small_files(self) -> Path | None:
        """Return where the download lies, or what stayed of it when it was freed."""
        place = self._store.root / str(self.key)
        for each in (place, freed_place(place)):
            with suppress(CorruptArtifact):  # whoever builds it says so
                if read_manifest(each) is not None and (each / "config.json").is_file():
                    return each
        return None

    def _file(self, name: str, read: Callable[[Path], T]) -> T:
        repo, commit = str(self.source.repo), self.commit
        with scratch_directory("hub") as cache, translated(repo, commit):
            return read(Path(api().hf_hub_download(repo, name, revision=commit, cache_dir=cache)))

    def _without_the_hub(self, error: KawanUsahaError) -> str:
        """Return the commit of the last run where the recipe allows it and the store has it."""
        if self._last_commit is None:
            raise with_ways_out(error) from error
        params: dict[str, JsonValue] = {"repo": self.source.repo, "commit": self._last_commit}
        name = str(stage_key(STAGE, VERSION, params))
        if not (self._store.root / name).is_dir() and self._store.freed(name) is None:
            raise with_ways_out(error) from error
        self.warning = gone_on_with(self.source, self._last_commit, error)
        return self._last_commit


class _Known(TypedDict):
    """What is known of a source's commit before the Hub is asked."""

    commit: str | None
    last_commit: str | None
    pauses_s: Sequence[float]


@dataclass(frozen=True)
class Sources:
    """Base and delta of one run, and the data sets of the Hub that it learns from."""

    base: Upstream
    delta: Upstream | None
    data: tuple[DataSet, ...] = ()

    @classmethod
    def of(cls, recipe: Recipe, home: Path, commits: Mapping[str, str] | None = None) -> "Sources":
        """Return the sources of a recipe, for a run that has taken these commits already.

        Without commits it is for no run, and a Hub that does not answer is not asked again.
        """
        store, records, taken = Store(home), RunRecords(home), commits or {}
        pauses_s = () if commits is None else PAUSES_S
        goes_on = recipe.when_offline == "last-commit"

        def known(name: str) -> _Known:
            last_commit = records.last_commit(name) if goes_on else None
            return {
                "commit": taken.get(name),
                "last_commit": last_commit,
                "pauses_s": pauses_s,
            }

        def upstream(source: Source) -> Upstream:
            return Upstream(source, store, **known(str(source)))

        def data_sets() -> Iterator[DataSet]:
            first: dict[str, DataSet] = {}
            for each in recipe.finetune.data if recipe.finetune is not None else ():
                if each.repo is not None:
                    name = recorded_name(each)
                    data_set = DataSet(each, store, **known(name), same=first.get(name))
                    first.setdefault(name, data_set)
                    yield data_set

        return cls(
            upstream(recipe.base),
            upstream(recipe.delta) if recipe.delta else None,
            tuple(data_sets()),
        )

    def __iter__(self) -> Iterator[Upstream]:
        yield from (each for each in (self.base, self.delta) if each is not None)

    @property
    def commits(self) -> dict[str, str]:
        """The commit of each repository, by what the recipe calls it; asked for where unknown."""
        models = {str(each.source): commit for each in self if (commit := each.commit) is not None}
        return models | {recorded_name(each.source): each.commit for each in self.data}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to tell people about the commits that were taken."""
        return tuple(each.warning for each in (*self, *self.data) if each.warning is not None)
