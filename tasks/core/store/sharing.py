"""One store's part in a remote store: what it takes from there, and what it has given.

`.pushed/<name>` says of an artifact that the remote store at a URL has it, so that a run with
nothing new asks nobody. The invariants: no failure here loses an artifact of this machine; what
comes from there is committed like what is built here, all of it or nothing; and work that rests on
an artifact of this machine is never given another one in its place.
"""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.errors import CorruptRemote, StorageUnavailable
from tasks.core.files.durable import fsync_tree, write_atomically
from tasks.core.files.listing import paths_below
from tasks.core.files.locks import Say
from tasks.core.progress import Lines, quantity
from tasks.core.store.manifest import KEPT_WHEN_FREED_BYTES, MANIFEST, freed_place, remove_note
from tasks.core.store.privacy import enclose
from tasks.core.store.remote import Remote, Shared
from tasks.core.store.seals import Kept
from tasks.core.store.shelf import Artifact, Shelf

logger = logging.getLogger(__name__)

PUSHED = ".pushed"
LINE_EVERY_S = 5.0


class _Note(BaseModel):
    """What is known to be at a remote store under the name of an artifact."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    ours: str
    theirs: str
    fetched: bool = False
    """Whether it was made by another machine."""


class Sharing:
    """What a store shares through a remote store. Whoever calls holds the lock of the artifact."""

    def __init__(self, shelf: Shelf, remote: Remote, say: Say) -> None:
        self.remote = remote
        self._shelf, self._say = shelf, say
        self._broken: set[str] = set()

    def find(self, name: str, wanted: str | None = None) -> Shared | None:
        """Return the artifact of this name that can be fetched, None without one.

        `wanted` is the digest that it must have, if it must. A broken one is told of and counts as
        none; what is built here then takes its place. Raises SignatureRefused for one that nobody
        has signed who is trusted.
        """
        try:
            found = self.remote.find(name)
        except CorruptRemote as error:
            self._tell_broken(name, error)
            return None
        if found is not None and wanted not in (None, found.digest):
            self._say(f"{name} at {self.remote.url} is another one than was made here.")
            return None
        if found is not None:
            self.remote.seals.require(self.remote.place, found.document)
        return found

    def fetch(self, shared: Shared, commit: Callable[[Path, Shared], Artifact]) -> Artifact | None:
        """Bring an artifact here and commit it; None when it is broken there.

        What was fetched by an attempt that was cut off is not fetched again. Raises as `find`.
        """
        signatures = self.remote.seals.require(self.remote.place, shared.document)
        staging = self._shelf.root / ".staging" / f"{shared.name}.fetched"
        enclose(staging, shared.manifest)
        size = quantity(shared.manifest.size_bytes)
        self._say(f"{shared.name}: fetching {size} from {self.remote.url}")
        try:
            here = dict(self._files_here())
            report = self._lines("fetched", shared.name)
            self.remote.fetch(shared, staging, here, on_progress=report)
        except CorruptRemote as error:
            self._tell_broken(shared.name, error)
            shutil.rmtree(staging)
            return None
        _remove_others(staging, shared)
        kept = Kept(self._shelf.root, shared.name)
        kept.forget()
        kept.add(signatures)
        artifact = commit(staging, shared)
        self._note(shared, shared, fetched=True)
        return artifact

    def leave_there(self, shared: Shared) -> bool:
        """Note an artifact here like one that was freed; False when it is broken there."""
        place = freed_place(self._shelf.root / shared.name)
        remove_note(self._shelf.root / shared.name)
        enclose(place, shared.manifest)
        try:
            self.remote.fetch(shared, place, {}, largest_bytes=KEPT_WHEN_FREED_BYTES)
        except CorruptRemote as error:
            self._tell_broken(shared.name, error)
            shutil.rmtree(place)
            return False
        fsync_tree(place)
        write_atomically(place / MANIFEST, shared.content, mode=0o444)
        self._note(shared, shared, fetched=True)
        size = quantity(shared.manifest.size_bytes)
        self._say(f"{shared.name}: {size} at {self.remote.url}, fetched once they are read")
        return True

    def is_pushed(self, artifact: Artifact) -> bool:
        """Return whether this very artifact is noted to be there, or to have a rival there."""
        note = self._noted(artifact.path.name)
        return note is not None and note.ours == artifact.digest

    def keeps_here(self, artifact: Artifact) -> bool:
        """Return whether this artifact must not be brought there."""
        return artifact.manifest.private and not self.remote.takes_private

    def has_settled(self, artifact: Artifact) -> bool:
        """Return whether nothing is left to bring there."""
        return self.keeps_here(artifact) or self.is_pushed(artifact)

    def is_shared(self, artifact: Artifact) -> bool:
        """Return whether this very artifact is noted to be there."""
        note = self._noted(artifact.path.name)
        return note is not None and note.ours == note.theirs == artifact.digest

    def push(self, artifact: Artifact) -> Shared:
        """Bring an artifact there and return the one that counts there, which may be another's.

        Raises StorageUnavailable, after which the next run goes on with it, and as `Remote.push`.
        """
        name = artifact.path.name
        ours = Shared(artifact.manifest, (artifact.path / MANIFEST).read_bytes())
        try:
            theirs = self.remote.push(
                artifact.path,
                ours,
                signatures=Kept(self._shelf.root, name).all(),
                proved=self._proved(),
                repair=name in self._broken,
                on_progress=self._lines("pushed", name),
            )
        except StorageUnavailable as error:
            raise StorageUnavailable(
                f"{name} is finished on this machine, but not at the remote store yet.",
                where=error.where,
                found=error.found or error.what,
                next_step="Run again, or `kawan-usaha store push`: nothing is made again, and "
                "what has arrived is not sent again.",
            ) from error
        self._broken.discard(name)
        if theirs is ours:
            self._say(f"{name}: at {self.remote.url}")
        if theirs.digest == ours.digest:
            self._note(ours, theirs)
        return theirs

    def keep_ours(self, artifact: Artifact, theirs: Shared) -> None:
        """Note that the remote store has other bytes for this key, and that ours stay here."""
        self._say(
            f"{theirs.name}: {self.remote.url} has another one, made elsewhere. Work here rests on "
            "this machine's, which stays as it is and is not shared."
        )
        self._note(Shared(artifact.manifest, b""), theirs)

    def is_built_upon(self, artifact: Artifact) -> bool:
        """Return whether anything on this machine was made from this artifact."""
        every = (*self._shelf.artifacts(), *self._shelf.freed_artifacts())
        return any(artifact.digest in each.manifest.inputs.values() for each in every)

    def _lines(self, verb: str, name: str) -> Lines:
        def show(_done: int, _total: int, line: str) -> None:
            self._say(f"{name}: {verb} {line}")

        return Lines(show, every_s=LINE_EVERY_S)

    def _tell_broken(self, name: str, error: CorruptRemote) -> None:
        """Tell it once: whoever looks whether it is there, and then fetches it, finds it twice."""
        if name in self._broken:
            return
        self._broken.add(name)
        logger.warning("%s", error)
        self._say(
            f"{name} at {self.remote.url} is broken ({error.what}). The next run that makes it "
            "here replaces it there."
        )

    def _files_here(self) -> Iterator[tuple[str, Path]]:
        for artifact in self._shelf.artifacts():
            for name, file in artifact.manifest.files.items():
                yield file.sha256, artifact.path / name

    def _proved(self) -> frozenset[str]:
        """Return the files that this machine has read at the remote store, by SHA-256."""
        return frozenset(
            file.sha256
            for artifact in self._shelf.artifacts()
            if self.is_shared(artifact)
            for file in artifact.manifest.files.values()
        )

    def _noted(self, name: str) -> _Note | None:
        note = _note_of(self._shelf.root, name)
        return note if note is not None and note.url == self.remote.url else None

    def _note(self, ours: Shared, theirs: Shared, *, fetched: bool = False) -> None:
        earlier = _note_of(self._shelf.root, ours.name)
        fetched |= earlier is not None and earlier.fetched and earlier.ours == ours.digest
        note = _Note(url=self.remote.url, ours=ours.digest, theirs=theirs.digest, fetched=fetched)
        place = self._shelf.root / PUSHED / ours.name
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, note.model_dump_json())


def was_fetched(root: Path, name: str) -> bool:
    """Return whether another machine has made this artifact of a store, as far as is noted."""
    note = _note_of(root, name)
    return note is not None and note.fetched


def _note_of(root: Path, name: str) -> _Note | None:
    with suppress(FileNotFoundError, ValidationError):
        return _Note.model_validate_json((root / PUSHED / name).read_bytes())
    return None


def _remove_others(staging: Path, shared: Shared) -> None:
    """Remove what an attempt to fetch another artifact of this key has left."""
    for path in [path for path in paths_below(staging) if path.is_file()]:
        if str(path.relative_to(staging)) not in shared.manifest.files:
            path.unlink()
