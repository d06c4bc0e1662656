"""A source of the recipe at one commit: its key, and what its files say before it is downloaded.

The Hub is asked once, and only where the store does not have the commit. The invariant: everything
that one run learns of a source is of one commit.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import JsonValue

from tasks.core.errors import CorruptArtifact
from tasks.core.files.foreign import JsonObject, read_json_object
from tasks.core.files.temporary import scratch_directory
from tasks.core.hub.client import api
from tasks.core.hub.download.local_copy import choose_from_directory, directory_identity
from tasks.core.hub.download.model import ResolvedModel, resolve_model
from tasks.core.hub.errors import translated
from tasks.core.hub.revisions import Known, Revision, is_stored
from tasks.core.keys import StageKey, stage_key
from tasks.core.model.config import read_config
from tasks.core.model.template_record import TEMPLATE_RECORD, recorded_template
from tasks.core.recipe import Source
from tasks.core.store import Store
from tasks.core.store.manifest import freed_place, read_manifest

T = TypeVar("T")

STAGE = "download"
VERSION = 2


class PinnedSource:
    """One source, at one commit from the first question on.

    Every question raises what `resolve_model` raises where the answer is not in the store.
    """

    def __init__(
        self,
        source: Source,
        store: Store,
        known: Known = Known(),  # noqa: B008 - it is frozen
    ) -> None:
        self.source = source
        self._store = store
        self._revision = Revision(
            str(source),
            source.revision,
            known,
            resolve=lambda revision: resolve_model(str(source.repo), revision),
            is_stored=lambda commit: is_stored(self._key(commit), store),
        )

    @property
    def commit(self) -> str | None:
        """The commit that the revision names, None for a directory."""
        return None if self.source.repo is None else self._revision.commit

    @property
    def warning(self) -> str | None:
        """What people should know about the commit that was taken."""
        return self._revision.warning

    @property
    def params(self) -> dict[str, JsonValue]:
        """What decides the bytes of the source: its commit, or the state of its directory."""
        if self.source.directory is not None:
            return {"directory_state": directory_identity(self.source.directory)}
        return self._params(self.commit)

    @property
    def key(self) -> StageKey:
        """The key of the download."""
        return stage_key(STAGE, VERSION, self.params)

    def _params(self, commit: str | None) -> dict[str, JsonValue]:
        return {"repo": self.source.repo, "commit": commit}

    def _key(self, commit: str) -> StageKey:
        return stage_key(STAGE, VERSION, self._params(commit))

    def model(self) -> ResolvedModel:
        """Return the files to take from the Hub at this commit."""
        return self._revision.ask()

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

    def _small_files(self) -> Path | None:
        """Return the directory of the download, or of the small files left when it was freed."""
        place = self._store.root / str(self.key)
        for each in (place, freed_place(place)):
            with suppress(CorruptArtifact):  # reported when it is built
                if read_manifest(each) is not None and (each / "config.json").is_file():
                    return each
        return None

    def _file(self, name: str, read: Callable[[Path], T]) -> T:
        repo, commit = str(self.source.repo), self.commit
        with scratch_directory("hub") as cache, translated(repo, commit):
            return read(Path(api().hf_hub_download(repo, name, revision=commit, cache_dir=cache)))
