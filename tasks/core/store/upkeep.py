"""A store that is kept in order: its locks, its damaged artifacts, what is freed and removed.

The invariants: a directory is renamed before it is removed, so that an interrupted removal leaves
no half artifact; and no artifact is freed or set aside while another process builds or reads it.
"""

import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tasks.core.errors import CorruptArtifact, LockBusy
from tasks.core.files.copies import link_or_copy
from tasks.core.files.durable import fsync_directory, fsync_tree, make_directory
from tasks.core.files.locks import WAIT_S, Say, locked
from tasks.core.keys import StageKey
from tasks.core.store.checks import wrong_content
from tasks.core.store.kept_signatures import KeptSignatures
from tasks.core.store.manifest import (
    KEPT_WHEN_FREED_BYTES,
    Manifest,
    freed_place,
    read_manifest,
    remove_note,
    write_manifest,
)
from tasks.core.store.privacy import enclose
from tasks.core.store.shelf import Artifact, Shelf

logger = logging.getLogger(__name__)


class MaintainedShelf(Shelf):
    """The artifacts under one home directory. Safe for several processes at once.

    purpose is shown to the processes that wait for this one; waits gets a line for each lock that
    this process waits for.
    """

    def __init__(self, home: Path, purpose: str, waits: Say) -> None:
        super().__init__(home)
        self._purpose = purpose
        self._waits = waits

    # --- locks ----------------------------------------------------------------------------------

    @contextmanager
    def present(self, names: Sequence[str]) -> Iterator[None]:
        """Keep others from freeing these artifacts during the block, which reads their files."""
        with ExitStack() as held:
            for name in names:
                held.enter_context(self._locked(name, "read", shared=True))
            yield

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Block `prune` while a run holds artifacts that nothing else refers to yet."""
        with self._locked("in-use", shared=True, wait_s=60.0):
            yield

    @contextmanager
    def unused(self) -> Iterator[None]:
        """Block runs while something is removed. Raises LockBusy while one is in progress."""
        with self._locked("in-use", wait_s=0.0):
            yield

    def _locked(
        self, name: str, work: str = "", *, shared: bool = False, wait_s: float = WAIT_S
    ) -> AbstractContextManager[None]:
        make_directory(self.root)
        what = f"{self._purpose}: {work}" if work else self._purpose
        lock = self.root / ".locks" / name
        return locked(lock, what, shared=shared, wait_s=wait_s, say=self._waits)

    # --- finding, and setting aside what is damaged ---------------------------------------------

    def named(self, name: str) -> Artifact | None:
        """Return the artifact with this directory name, None without one.

        A damaged one is logged, set aside, and counts as missing.
        """
        try:
            return self._named(name)
        except CorruptArtifact:
            with self._locked(name, "set aside"):
                return self._named_or_set_aside(name)

    def there(self, name: str) -> Artifact:
        """Return the artifact with this directory name; takes no lock and sets nothing aside.

        Raises CorruptArtifact for one that is damaged or missing.
        """
        artifact = self._named(name)
        if artifact is None:
            raise CorruptArtifact("There is no such artifact.", where=self.root / name)
        return artifact

    def require_content(self, artifact: Artifact) -> None:
        """Read every byte of an artifact. If it is damaged, set it aside and raise CorruptArtifact.

        For an artifact that is only compared with: damaged, it would otherwise fail every run. The
        caller holds no lock of it. An artifact that was built in its place meanwhile stays, and
        raises CorruptArtifact too, since it is not the one that was asked about.
        """
        name = artifact.path.name
        with self._locked(name, "verify", shared=True):
            problems = list(wrong_content(artifact.path))
            if not problems and _digest_of(artifact.path) == artifact.digest:
                return
        with self._locked(name, "set aside"):
            # It was unlocked for a moment: another process may have set it aside and rebuilt it.
            problems = list(wrong_content(artifact.path)) if artifact.path.exists() else []
            if problems:
                self._set_aside(artifact.path)
                raise CorruptArtifact(
                    "An artifact is damaged. It was set aside.",
                    where=artifact.path,
                    found="; ".join(problems),
                    next_step="Run again: the run then does without this artifact.",
                )
        raise CorruptArtifact(
            "An artifact was rebuilt or removed while it was being read.",
            where=artifact.path,
            next_step="Run again.",
        )

    def _find_or_set_aside(self, key: StageKey) -> Artifact | None:
        directory = self.path_of(key)
        try:
            found = self.find(key)
        except CorruptArtifact as error:
            logger.warning("%s", error)
        else:
            if found is not None or not directory.exists():
                return found
            logger.warning("%s has no manifest: it was never complete", directory)
        self._set_aside(directory)
        return None

    def _named_or_set_aside(self, name: str) -> Artifact | None:
        try:
            return self._named(name)
        except CorruptArtifact as error:
            logger.warning("%s", error)
            self._set_aside(self.root / name)
            return None

    def _named(self, name: str) -> Artifact | None:
        manifest = read_manifest(self.root / name)
        return None if manifest is None else self.find(manifest.stage_key)

    def _set_aside(self, directory: Path) -> None:
        aside = self.root / ".corrupt" / f"{directory.name}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        aside.parent.mkdir(exist_ok=True)
        directory.rename(aside)

    # --- freeing and removing -------------------------------------------------------------------

    def free(self, name: str) -> bool:
        """Remove an artifact but for its manifest and small files; return whether it was freed.

        It is not while another process builds or reads it, or when it is damaged or missing.
        """
        directory = self.root / name
        try:
            with self._locked(name, "free", wait_s=0.0):
                manifest = read_manifest(directory)
                if manifest is None:
                    return False
                _keep_small_files(directory, manifest)
                self._remove(directory)
                return True
        except (LockBusy, CorruptArtifact):
            return False

    def remove(self, directories: Iterable[Path]) -> None:
        """Remove directories that `contents` lists."""
        for directory in directories:
            if directory.exists():
                self._remove(directory)
            if directory.parent == self.root:
                KeptSignatures(self.root, directory.name).forget()

    def _remove(self, directory: Path) -> None:
        gone = self.root / ".trash" / directory.name
        if gone != directory:
            gone.parent.mkdir(exist_ok=True)
            shutil.rmtree(gone, ignore_errors=True)  # left by a removal that was killed
            directory.rename(gone)
            fsync_directory(directory.parent)
        shutil.rmtree(gone)


def _digest_of(directory: Path) -> str | None:
    manifest = read_manifest(directory)
    return None if manifest is None else manifest.content_digest


def _keep_small_files(directory: Path, manifest: Manifest) -> None:
    """Copy manifest and small files of an artifact that is about to be freed, manifest last."""
    place = freed_place(directory)
    remove_note(directory)  # left by an attempt to free it that was killed
    enclose(place, manifest)
    for name, file in manifest.files.items():
        if file.size_bytes <= KEPT_WHEN_FREED_BYTES:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(directory / name, place / name)
    fsync_tree(place)
    write_manifest(place, manifest)
