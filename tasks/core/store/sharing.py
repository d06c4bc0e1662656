"""One store's exchange with a remote store: what it fetches from there, and what it pushes.

The invariants: no failure here loses an artifact of this machine; what is fetched is committed like
what is built here, all of it or nothing; and work that rests on an artifact of this machine never
gets another one in its place.
"""

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tasks.core.errors import CorruptRemote, StorageUnavailable
from tasks.core.files.durable import fsync_tree, write_atomically
from tasks.core.files.listing import paths_below
from tasks.core.files.locks import Say
from tasks.core.progress import Lines, quantity
from tasks.core.store.kept_signatures import KeptSignatures
from tasks.core.store.manifest import KEPT_WHEN_FREED_BYTES, MANIFEST, freed_place, remove_note
from tasks.core.store.privacy import enclose
from tasks.core.store.pushed import PushedNote, forget_note, read_note, write_note
from tasks.core.store.remote import RemoteArtifact, RemoteStore
from tasks.core.store.shelf import Artifact, Shelf

logger = logging.getLogger(__name__)

LINE_EVERY_S = 5.0


class Sharing:
    """What a store shares through a remote store. The caller holds the lock of the artifact."""

    def __init__(self, shelf: Shelf, remote: RemoteStore, say: Say) -> None:
        self.remote = remote
        self._shelf, self._say = shelf, say
        self._broken: set[str] = set()

    def find(self, name: str, wanted: str | None = None) -> RemoteArtifact | None:
        """Return the artifact of this name that can be fetched, None without one.

        `wanted` is the digest that it must have, if any. A broken one is reported and counts as
        missing; what is built here then replaces it. Raises SignatureRefused for one that no
        trusted key has signed.
        """
        try:
            found = self.remote.find(name)
        except CorruptRemote as error:
            self._report_broken(name, error)
            return None
        if found is not None and wanted not in (None, found.digest):
            self._say(f"{name} at {self.remote.url} differs from the one that was made here.")
            return None
        if found is not None:
            self.remote.signatures.require(found.document)
        return found

    # --- fetching -------------------------------------------------------------------------------

    def fetch(
        self, found: RemoteArtifact, commit: Callable[[Path, RemoteArtifact], Artifact]
    ) -> Artifact | None:
        """Fetch an artifact and commit it; None when it is broken there.

        What an interrupted attempt has fetched is not fetched again. Raises as `find`.
        """
        signatures = self.remote.signatures.require(found.document)
        staging = self._shelf.root / ".staging" / f"{found.name}.fetched"
        enclose(staging, found.manifest)
        size = quantity(found.manifest.size_bytes)
        self._say(f"{found.name}: fetching {size} from {self.remote.url}")
        try:
            here = dict(self._files_here())
            report = self._lines("fetched", found.name)
            self.remote.fetch(found, staging, here, on_progress=report)
        except CorruptRemote as error:
            self._report_broken(found.name, error)
            shutil.rmtree(staging)
            return None
        _remove_others(staging, found)
        kept = KeptSignatures(self._shelf.root, found.name)
        kept.forget()
        kept.add(signatures)
        artifact = commit(staging, found)
        self._note(found, found, fetched=True)
        return artifact

    def leave_there(self, found: RemoteArtifact) -> None:
        """Note an artifact here like one that was freed, unless it is broken there."""
        place = freed_place(self._shelf.root / found.name)
        remove_note(self._shelf.root / found.name)
        enclose(place, found.manifest)
        try:
            self.remote.fetch(found, place, {}, largest_bytes=KEPT_WHEN_FREED_BYTES)
        except CorruptRemote as error:
            self._report_broken(found.name, error)
            shutil.rmtree(place)
            return
        fsync_tree(place)
        write_atomically(place / MANIFEST, found.content, mode=0o444)
        self._note(found, found, fetched=True)
        size = quantity(found.manifest.size_bytes)
        self._say(f"{found.name}: {size} at {self.remote.url}, fetched when a stage reads it")

    def _files_here(self) -> Iterator[tuple[str, Path]]:
        for artifact in self._shelf.artifacts():
            for name, file in artifact.manifest.files.items():
                yield file.sha256, artifact.path / name

    def _report_broken(self, name: str, error: CorruptRemote) -> None:
        """Report it once: whoever finds an artifact and then fetches it meets the fault twice."""
        if name in self._broken:
            return
        self._broken.add(name)
        forget_note(self._shelf.root, name)
        logger.warning("%s", error)
        self._say(
            f"{name} at {self.remote.url} is broken ({error.what}). The next run that makes it "
            "here replaces it there."
        )

    # --- pushing --------------------------------------------------------------------------------

    def push(self, artifact: Artifact) -> RemoteArtifact:
        """Push an artifact and return the one that counts there, which may be another machine's.

        Raises StorageUnavailable, after which the next run resumes, and as `RemoteStore.push`.
        """
        name = artifact.path.name
        ours = RemoteArtifact(artifact.manifest, (artifact.path / MANIFEST).read_bytes())
        try:
            theirs = self.remote.push(
                artifact.path,
                ours,
                signatures=KeptSignatures(self._shelf.root, name).all(),
                proved=self._proved(),
                repair=name in self._broken,
                on_progress=self._lines("pushed", name),
            )
        except StorageUnavailable as error:
            raise StorageUnavailable(
                f"{name} is finished on this machine, but not at the remote store yet.",
                where=error.where,
                found=error.found or error.what,
                next_step="Run again, or `kawan-usaha store push`: nothing is built again, and "
                "what has arrived is not sent again.",
            ) from error
        self._broken.discard(name)
        if theirs is ours:
            self._say(f"{name}: at {self.remote.url}")
        if theirs.digest == ours.digest:
            self._note(ours, theirs)
        return theirs

    def keep_ours(self, artifact: Artifact, theirs: RemoteArtifact) -> None:
        """Note that the remote store has other content for this key, and that ours stays here."""
        self._say(
            f"{theirs.name}: {self.remote.url} has another one, made elsewhere. Work here rests on "
            "this machine's, which stays as it is and is not shared."
        )
        self._note(RemoteArtifact(artifact.manifest, b""), theirs)

    def _proved(self) -> frozenset[str]:
        """Return the files that this machine has read back from the remote store, by SHA-256."""
        return frozenset(
            file.sha256
            for artifact in self._shelf.artifacts()
            if self.is_shared(artifact)
            for file in artifact.manifest.files.values()
        )

    def _lines(self, verb: str, name: str) -> Lines:
        def show(_done: int, _total: int, line: str) -> None:
            self._say(f"{name}: {verb} {line}")

        return Lines(show, every_s=LINE_EVERY_S)

    # --- what is known --------------------------------------------------------------------------

    def is_pushed(self, artifact: Artifact) -> bool:
        """Return whether this content is noted to be there, or to have a rival there."""
        note = self._noted(artifact.path.name)
        return note is not None and note.ours == artifact.digest

    def is_shared(self, artifact: Artifact) -> bool:
        """Return whether this content is noted to be there."""
        note = self._noted(artifact.path.name)
        return note is not None and note.ours == note.theirs == artifact.digest

    def keeps_here(self, artifact: Artifact) -> bool:
        """Return whether this artifact must not be pushed."""
        return artifact.manifest.private and not self.remote.takes_private

    def has_settled(self, artifact: Artifact) -> bool:
        """Return whether nothing is left to push."""
        return self.keeps_here(artifact) or self.is_pushed(artifact)

    def is_built_upon(self, artifact: Artifact) -> bool:
        """Return whether anything on this machine was made from this artifact."""
        every = (*self._shelf.artifacts(), *self._shelf.freed_artifacts())
        return any(artifact.digest in each.manifest.inputs.values() for each in every)

    def _noted(self, name: str) -> PushedNote | None:
        note = read_note(self._shelf.root, name)
        return note if note is not None and note.url == self.remote.url else None

    def _note(self, ours: RemoteArtifact, theirs: RemoteArtifact, *, fetched: bool = False) -> None:
        earlier = read_note(self._shelf.root, ours.name)
        fetched |= earlier is not None and earlier.fetched and earlier.ours == ours.digest
        note = PushedNote(
            url=self.remote.url, ours=ours.digest, theirs=theirs.digest, fetched=fetched
        )
        write_note(self._shelf.root, ours.name, note)


def _remove_others(staging: Path, wanted: RemoteArtifact) -> None:
    """Remove what an attempt to fetch another artifact of this key has left."""
    for path in [path for path in paths_below(staging) if path.is_file()]:
        if str(path.relative_to(staging)) not in wanted.manifest.files:
            path.unlink()
