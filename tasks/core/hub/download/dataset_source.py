"""A data set of the recipe: one commit a run, and its file of conversations as an artifact.

As `upstream` and `sources` have it for models: what the store holds at a commit needs no network.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from tasks.core.conversation.data_sources import FILES, files_in
from tasks.core.errors import HubOffline, HubUnavailable, KawanUsahaError
from tasks.core.files.durable import make_directory
from tasks.core.hub.download.datasets import ResolvedDataSet, fetch_file, resolve
from tasks.core.hub.revisions import gone_on_with, is_commit, with_ways_out
from tasks.core.keys import StageKey, stage_key
from tasks.core.recipe.data import DataSource
from tasks.core.store import Built, Staging, Store
from tasks.core.system.threads import pause

STAGE = "dataset"
VERSION = 1


class DataSet:
    """One data set of the Hub, at one commit once anybody has needed to know it."""

    def __init__(
        self,
        source: DataSource,
        store: Store,
        *,
        commit: str | None = None,
        last_commit: str | None = None,
        pauses_s: Sequence[float] = (),
        same: "DataSet | None" = None,
    ) -> None:
        """Take commit for the source's revision; last_commit only where the Hub does not answer.

        After each of pauses_s it is asked once more. same is another file of this revision, whose
        commit is taken: a branch may move between two questions.
        """
        self.source = source
        self.warning: str | None = None
        """What to tell people about the commit that is taken."""
        self._store = store
        self._commit = commit or (source.revision if is_commit(source.revision) else None)
        self._last_commit = last_commit
        self._pauses_s = tuple(pauses_s)
        self._same = same
        self._found: ResolvedDataSet | None = None

    @property
    def commit(self) -> str:
        """The commit that the revision names. Raises what `resolve` raises, UsageError too."""
        if self._commit is None and self._same is not None:
            commit = self._same.commit
            self._take(self._same._found)
            self._commit = commit
        if self._commit is None:
            try:
                self._commit = self._resolved()
            except (HubUnavailable, HubOffline) as error:
                self._commit = self._without_the_hub(error)
        return self._commit

    def fetch(self, store: Store) -> Built:
        """Return the artifact that holds the file, in the store as the run sees it.

        Raises what the Hub's client raises as translated, UsageError for a data set with a choice
        of files, DataError for one without.
        """
        params = self._params(self.commit)

        def write(staging: Staging) -> None:
            files = staging.path / FILES
            make_directory(files)
            _download(self._repo, self.commit, self.source.name, files)
            files_in(files)
            staging.note(revision=self.source.revision)

        return store.build(stage_key(STAGE, VERSION, params), write, params=params)

    @property
    def _repo(self) -> str:
        return str(self.source.repo)

    def _params(self, commit: str) -> dict[str, JsonValue]:
        return {"repo": self._repo, "commit": commit, "file": self.source.name}

    def _key(self, commit: str) -> StageKey:
        return stage_key(STAGE, VERSION, self._params(commit))

    def _resolved(self) -> str:
        for pause_s in self._pauses_s:
            try:
                return self._asked()
            except HubUnavailable:
                pause(pause_s)
        return self._asked()

    def _asked(self) -> str:
        found = resolve(self._repo, self.source.revision)
        self._take(found)
        return found.commit

    def _take(self, found: ResolvedDataSet | None) -> None:
        """Refuse an unclear choice of files now, not when one is fetched."""
        self._found = found
        if found is not None:
            found.choose(self.source.name)

    def _without_the_hub(self, error: KawanUsahaError) -> str:
        """Return the commit of the last run where the recipe allows it and the store has it."""
        last = self._last_commit
        name = None if last is None else str(self._key(last))
        if name is None or not ((self._store.root / name).is_dir() or self._store.freed(name)):
            raise with_ways_out(error) from error
        self.warning = gone_on_with(recorded_name(self.source), str(last), error)
        return str(last)


def recorded_name(source: DataSource) -> str:
    """Return what a run records the commit under: a model may have the name of a data set."""
    return f"datasets/{source.repo}@{source.revision}"


def _download(repo: str, commit: str, name: str | None, into: Path) -> None:
    """Put the file into the directory under its own name, without the folders that it lies in."""
    fetched = fetch_file(resolve(repo, commit), name, into)
    if fetched.parent != into:
        fetched.replace(into / fetched.name)
        shutil.rmtree(into / fetched.relative_to(into).parts[0])
    shutil.rmtree(into / ".cache", ignore_errors=True)
