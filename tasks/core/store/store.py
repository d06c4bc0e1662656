"""Content-addressed, immutable artifacts in one directory.

    <home>/store/<stage>-<key>/   manifest.json and the files, read-only: whole, or not there
    <home>/store/.staging/<...>   what an attempt has written so far
    <home>/store/.freed/<...>     manifest and small files of an artifact whose others were freed
    <home>/store/.corrupt/<...>   artifacts that were found damaged, set aside
    <home>/store/.pushed/<...>    which artifacts the remote store has, if there is one
    <home>/store/.signed/<...>    signatures of artifacts (`seals.py`)
    <home>/store/.locks/<...>     one lock a key

The invariant: only `Store.build` renames into the store, after every byte has reached the disk and
the manifest was written last. The store knows no stage; it never looks into an artifact. A freed
artifact does not exist for `find` and `build`; its manifest stays, so that a run can go on without
it as long as nothing has to read it (`run.py`), and so do its small files, such as a model's card
and configuration, which tell where later models come from.

With a remote store (`remote.py`) an artifact that is not here is looked for there before it is
built, and one that is finished here is brought there.
"""

import logging
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import CorruptArtifact, DiskFull, LockBusy
from tasks.core.files.copies import link_or_copy
from tasks.core.files.digests import FileDigest, digests_of
from tasks.core.files.disk_space import disk_is_full
from tasks.core.files.durable import fsync_directory, fsync_tree, make_directory, write_atomically
from tasks.core.files.listing import paths_below
from tasks.core.files.locks import WAIT_S, Say, locked
from tasks.core.files.temporary import TEMPORARY
from tasks.core.keys import StageKey, to_jsonable
from tasks.core.store.checks import wrong_content
from tasks.core.store.handover import Handover
from tasks.core.store.manifest import (
    KEPT_WHEN_FREED_BYTES,
    MANIFEST,
    Manifest,
    freed_place,
    read_manifest,
    remove_note,
    write_manifest,
)
from tasks.core.store.privacy import any_private, enclose
from tasks.core.store.remote import Remote, Shared
from tasks.core.store.seals import Document, Kept
from tasks.core.store.sharing import Sharing
from tasks.core.store.shelf import Artifact, Shelf
from tasks.core.store.staging import Staging
from tasks.core.system.measure import Cost, measured

if TYPE_CHECKING:
    from tasks.core.signing import SigningKey

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Built:
    """What `Store.build` returns: the artifact, and whether it was there already."""

    artifact: Artifact
    cached: bool


class Store(Shelf):
    """The artifacts under one home directory. Safe for several processes at once.

    purpose is what this process works on, by default its command: other processes are told when
    they wait for it. say is told what is fetched and pushed; waits, for whom this one waits, by
    default say. key signs what is built here.
    """

    def __init__(
        self,
        home: Path,
        purpose: str | None = None,
        say: Say = logger.warning,
        *,
        waits: Say | None = None,
        remote: Remote | None = None,
        key: "SigningKey | None" = None,
    ) -> None:
        super().__init__(home)
        self._key = key
        self._purpose = purpose or " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])
        self._say = say
        self._waits = waits or say
        self._sharing = None if remote is None else Sharing(self, remote, say)

    def named(self, name: str) -> Artifact | None:
        """Return the artifact with this directory name, None without one.

        A damaged one is set aside with a line in the log, and counts as none.
        """
        try:
            return self._named(name)
        except CorruptArtifact:
            with self._locked(name, "set aside"):
                return self._named_or_set_aside(name)

    def there(self, name: str) -> Artifact:
        """Return the artifact with this directory name; nothing is set aside, nor is a lock taken.

        Raises CorruptArtifact for one that is damaged or not there.
        """
        artifact = self._named(name)
        if artifact is None:
            raise CorruptArtifact("There is no such artifact.", where=self.root / name)
        return artifact

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

    def require_content(self, artifact: Artifact) -> None:
        """Read every byte of an artifact; when it is damaged, set it aside: CorruptArtifact.

        For one that is compared with rather than built again, so that it cannot fail every run.
        Whoever calls holds no lock of it. What was built in its place meanwhile stays, and is
        CorruptArtifact, too: it is not what was asked about.
        """
        name = artifact.path.name
        with self._locked(name, "verify", shared=True):
            problems = list(wrong_content(artifact.path))
            if not problems and _digest_of(artifact.path) == artifact.digest:
                return
        with self._locked(name, "set aside"):
            # For a moment nobody held it: another process may have set it aside and built anew.
            problems = list(wrong_content(artifact.path)) if artifact.path.exists() else []
            if problems:
                self._set_aside(artifact.path)
                raise CorruptArtifact(
                    "An artifact is damaged. It was set aside.",
                    where=artifact.path,
                    found="; ".join(problems),
                    next_step="Run again: it then goes without this artifact.",
                )
        raise CorruptArtifact(
            "An artifact was made anew, or taken away, while it was read.",
            where=artifact.path,
            next_step="Run again.",
        )

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
        """Return the artifact of this key, calling write only when it is missing or damaged.

        write gets a Staging directory that may hold what a killed attempt left. When it raises,
        nothing appears in the store and the staging directory stays for the next attempt. params
        and inputs are recorded as they are. needs names the artifacts that write reads: nobody
        frees them meanwhile. before does what can be done while these are still being made, and
        returns once they are: it holds none of their locks. Raises LockBusy after wait_s seconds,
        DiskFull when the disk runs full on the way, and with a remote store StorageUnavailable or
        StorageRefused, after which what is finished here is still there.
        """
        nothing_to_do = self._complete(key, wait_s)
        if nothing_to_do is not None:
            return Built(nothing_to_do, cached=True)
        with self._locked(str(key), key.stage, wait_s=wait_s), self._disk_full_explained():
            found = self._find_or_set_aside(key) or self._fetched(str(key))
            if found is not None:
                return Built(self._shared(found), cached=True)
            staging = self._staging(key)
            _reopen(staging.path)
            ahead = Cost()
            if before is not None:
                with measured() as ahead:
                    before(staging)
            with self.present(needs), measured() as cost:
                if any_private(self.root, needs):
                    staging.keep_private()
                write(staging)
            cost = ahead.and_then(cost, waited_s=staging.waited_s)
            artifact = self._commit(key, staging, cost, params, dict(inputs or {}))
            shared = self._shared(artifact)
            staging.forget()
            return Built(shared, cached=False)

    @property
    def remote(self) -> Remote | None:
        """The remote store, None without one."""
        return None if self._sharing is None else self._sharing.remote

    def push(self, name: str) -> Artifact | None:
        """Bring an artifact to the remote store; return what is here then, None without one.

        What was noted to be there is looked for again. Raises as `build`.
        """
        with self._locked(name, "push"):
            artifact = self._named_or_set_aside(name)
            return None if artifact is None else self._shared(artifact, ask=True)

    def pull(self, name: str) -> Artifact | None:
        """Return the artifact of this name, fetched when it is not here; None without one."""
        with self._locked(name, "pull"), self._disk_full_explained():
            return self._named_or_set_aside(name) or self._fetched(name)

    def is_shared(self, artifact: Artifact) -> bool | None:
        """Return whether the remote store is known to have this artifact; None without one."""
        return None if self._sharing is None else self._sharing.is_shared(artifact)

    @contextmanager
    def present(self, names: Sequence[str]) -> Iterator[None]:
        """Keep others from freeing these artifacts during the block, which reads their files."""
        with ExitStack() as held:
            for name in names:
                held.enter_context(self._locked(name, "read", shared=True))
            yield

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep `prune` away while a run holds artifacts that nobody else refers to yet."""
        with self._locked("in-use", shared=True, wait_s=60.0):
            yield

    @contextmanager
    def unused(self) -> Iterator[None]:
        """Keep runs away while something is removed. Raises LockBusy while one is in progress."""
        with self._locked("in-use", wait_s=0.0):
            yield

    def remove(self, directories: Iterable[Path]) -> None:
        """Remove directories that `contents` names."""
        for directory in directories:
            if directory.exists():
                self._remove(directory)
            if directory.parent == self.root:
                Kept(self.root, directory.name).forget()

    def free(self, name: str) -> bool:
        """Remove all but the manifest and the small files; False when there is nothing to free.

        False too while another process builds or reads the artifact, or when it is damaged.
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

    def _complete(self, key: StageKey, wait_s: float) -> Artifact | None:
        """Return an artifact for which nothing is left to do, also while other processes read it.

        Waits only for one that is just being built.
        """
        with (
            self._locked(str(key), key.stage, shared=True, wait_s=wait_s),
            suppress(CorruptArtifact),
        ):
            found = self.find(key)
            if found is not None and (self._sharing is None or self._sharing.has_settled(found)):
                return found
        return None

    def _staging(self, key: StageKey) -> Staging:
        path = self.root / ".staging" / str(key)
        sharing = self._sharing
        handover = None if sharing is None else Handover(sharing.remote, path, self._say)
        return Staging(path, handover=handover)

    def _fetched(self, name: str) -> Artifact | None:
        """Return an artifact of the remote store, brought here; None where there is none.

        One that was freed here must come back as it was: later stages were made from it.
        """
        if self._sharing is None:
            return None
        freed = self.freed(name)
        found = self._sharing.find(name, None if freed is None else freed.digest)
        return None if found is None else self._sharing.fetch(found, self._commit_fetched)

    def _shared(self, artifact: Artifact, *, ask: bool = False) -> Artifact:
        """Bring an artifact to the remote store; return it, or the one that was there before it.

        Another machine's takes its place only where nothing was made of this one yet.
        """
        sharing = self._sharing
        if sharing is None or (not ask and sharing.is_pushed(artifact)):
            return artifact
        if sharing.keeps_here(artifact):
            self._say(f"{artifact.path.name}: stays on this machine, it holds what people wrote")
            return artifact
        try:
            theirs = sharing.push(artifact)
        except CorruptArtifact:
            self._set_aside(artifact.path)
            raise
        if theirs.digest == artifact.digest:
            return artifact
        if sharing.is_built_upon(artifact):
            sharing.keep_ours(artifact, theirs)
            return artifact
        self._say(f"{theirs.name}: another machine was first, and its artifact is taken.")
        return sharing.fetch(theirs, self._commit_fetched) or self._shared(artifact)

    def _commit_fetched(self, directory: Path, shared: Shared) -> Artifact:
        target = self.root / shared.name
        for name in shared.manifest.files:
            (directory / name).chmod(0o444)
        fsync_tree(directory)
        write_atomically(directory / MANIFEST, shared.content, mode=0o444)
        if target.exists():
            self._remove(target)
        return self._move_in(directory, target, shared.manifest)

    @contextmanager
    def _disk_full_explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not disk_is_full(error):
                raise
            raise DiskFull(
                "The disk ran full while an artifact was written.",
                where=self.root,
                found=error,
                next_step="Free some space and run again: what is finished stays finished.",
            ) from error

    def _locked(
        self, name: str, work: str = "", *, shared: bool = False, wait_s: float = WAIT_S
    ) -> AbstractContextManager[None]:
        make_directory(self.root)
        what = f"{self._purpose}: {work}" if work else self._purpose
        lock = self.root / ".locks" / name
        return locked(lock, what, shared=shared, wait_s=wait_s, say=self._waits)

    def _find_or_set_aside(self, key: StageKey) -> Artifact | None:
        directory = self.path_of(key)
        try:
            found = self.find(key)
        except CorruptArtifact as error:
            logger.warning("%s", error)
        else:
            if found is not None or not directory.exists():
                return found
            logger.warning("%s has no manifest: it was never whole", directory)
        self._set_aside(directory)
        return None

    def _set_aside(self, directory: Path) -> None:
        aside = self.root / ".corrupt" / f"{directory.name}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        aside.parent.mkdir(exist_ok=True)
        directory.rename(aside)

    def _commit(
        self, key: StageKey, staging: Staging, cost: Cost, params: object, inputs: dict[str, str]
    ) -> Artifact:
        names = sorted(
            str(path.relative_to(staging.path))
            for path in paths_below(staging.path)
            if path.is_file()
        )
        files = _digests(staging, names)
        fsync_tree(staging.path)
        for name in names:
            (staging.path / name).chmod(0o444)
        manifest = Manifest(
            stage=key.stage,
            key=key.digest,
            created_at=datetime.now(UTC),
            params=to_jsonable(params),
            inputs=inputs,
            files=files,
            facts=staging.facts,
            wall_s=round(cost.wall_s, 3),
            peak_memory_bytes=cost.peak_memory_bytes,
            private=staging.private,
        )
        write_manifest(staging.path, manifest)
        self._sign_new(Artifact(staging.path, manifest))
        return self._move_in(staging.path, self.path_of(key), manifest)

    def _sign_new(self, artifact: Artifact) -> None:
        """Keep this machine's signature of what it has just built, before that has its name."""
        kept = Kept(self.root, str(artifact.key))
        kept.forget()
        if self._key is not None:
            kept.add(
                {
                    self._key.fingerprint: Document.of_artifact(
                        artifact.path, artifact.manifest
                    ).signed_with(self._key)
                }
            )

    def _move_in(self, directory: Path, target: Path, manifest: Manifest) -> Artifact:
        directory.rename(target)
        fsync_directory(self.root)
        remove_note(target)
        return Artifact(target, manifest)

    def _remove(self, directory: Path) -> None:
        """Take the name away first, so that an end in the middle leaves no half artifact."""
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


def _digests(staging: Staging, names: Sequence[str]) -> dict[str, FileDigest]:
    """Return what the stage has told of the files that it wrote; those of the others are taken."""
    files = {
        name: staging.known[name]
        for name in names
        if name in staging.known
        and staging.known[name].size_bytes == (staging.path / name).stat().st_size
    }
    others = [name for name in names if name not in files]
    taken = digests_of([staging.path / name for name in others])
    files.update(zip(others, taken, strict=True))
    return {name: files[name] for name in names}


def _keep_small_files(directory: Path, manifest: Manifest) -> None:
    """Make the note of an artifact that is about to be freed, its manifest last."""
    place = freed_place(directory)
    remove_note(directory)  # left by a freeing that was killed
    enclose(place, manifest)
    for name, file in manifest.files.items():
        if file.size_bytes <= KEPT_WHEN_FREED_BYTES:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(directory / name, place / name)
    fsync_tree(place)
    write_manifest(place, manifest)


def _reopen(staging: Path) -> None:
    """Make what an attempt left ready to go on, also if it was killed while it was sealed.

    A file with a second name is shared with a finished artifact and stays read-only.
    """
    make_directory(staging)
    for path in [path for path in paths_below(staging) if path.is_file()]:
        if path.name.startswith(TEMPORARY) or path == staging / MANIFEST:
            path.unlink()
        elif path.stat().st_nlink == 1:
            path.chmod(0o644)
