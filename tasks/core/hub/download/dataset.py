"""A data set that a recipe names, at one commit, and its file of conversations as an artifact.

As `pinned` and `artifact` do for models: a file that the store has at the commit needs no network.
"""

import shutil
from pathlib import Path

from pydantic import JsonValue

from tasks.core.conversation.reading.data_sources import FETCHED_FILES, files_in
from tasks.core.files.durable import make_directory
from tasks.core.hub.download.dataset_files import ResolvedDataSet, fetch_file, resolve_data_set
from tasks.core.hub.revisions import Known, Revision, is_stored
from tasks.core.keys import StageKey, stage_key
from tasks.core.recipe.data import DataSource
from tasks.core.store import Built, Staging, Store

STAGE = "dataset"
VERSION = 1


class PinnedDataSet:
    """One file of a data set on the Hub, at one commit from the first question on."""

    def __init__(
        self,
        source: DataSource,
        store: Store,
        known: Known = Known(),  # noqa: B008 - it is frozen
        *,
        same: "PinnedDataSet | None" = None,
    ) -> None:
        """Share the commit of `same`, another file of this revision.

        A branch may move between two questions.
        """
        self.source = source
        self._repo = str(source.repo)
        self._store = store
        self._revision: Revision[ResolvedDataSet] = (
            self._resolvable(known) if same is None else same._revision
        )

    def _resolvable(self, known: Known) -> Revision[ResolvedDataSet]:
        return Revision(
            recorded_name(self.source),
            self.source.revision,
            known,
            resolve=lambda revision: resolve_data_set(self._repo, revision),
            is_stored=lambda commit: is_stored(self._key(commit), self._store),
        )

    @property
    def commit(self) -> str:
        """The commit that the revision names.

        Raises what `resolve_data_set` raises, and UsageError where it is unclear which file of the
        data set is meant: now, not when the file is downloaded.
        """
        commit = self._revision.commit
        if self._revision.resolved is not None:
            self._revision.resolved.choose(self.source.name)
        return commit

    @property
    def warning(self) -> str | None:
        """What people should know about the commit that was taken."""
        return self._revision.warning

    def download(self, store: Store) -> Built:
        """Return the artifact that holds the file, in the store as the run sees it.

        Raises what the Hub's client raises as translated, UsageError for a data set with a choice
        of files, DataError for one without.
        """
        params = self._params(self.commit)

        def write(staging: Staging) -> None:
            files = staging.path / FETCHED_FILES
            make_directory(files)
            _download(resolve_data_set(self._repo, self.commit), self.source.name, files)
            files_in(files)
            staging.note(revision=self.source.revision)

        return store.build(stage_key(STAGE, VERSION, params), write, params=params)

    def _params(self, commit: str) -> dict[str, JsonValue]:
        return {"repo": self._repo, "commit": commit, "file": self.source.name}

    def _key(self, commit: str) -> StageKey:
        return stage_key(STAGE, VERSION, self._params(commit))


def recorded_name(source: DataSource) -> str:
    """Return the name that a run records the commit under: a model may have the same name."""
    return f"datasets/{source.repo}@{source.revision}"


def _download(data_set: ResolvedDataSet, name: str | None, into: Path) -> None:
    """Put the file into the directory under its own name, without the folders that hold it."""
    fetched = fetch_file(data_set, name, into)
    if fetched.parent != into:
        fetched.replace(into / fetched.name)
        shutil.rmtree(into / fetched.relative_to(into).parts[0])
    shutil.rmtree(into / ".cache", ignore_errors=True)
