"""Content-addressed, immutable artifacts in one directory.

    <home>/store/<stage>-<key>/   manifest.json and the files, read-only: whole, or not there
    <home>/store/.staging/<...>   what an attempt has written so far
    <home>/store/.corrupt/<...>   artifacts that were found damaged, set aside
    <home>/store/.locks/<...>     one lock a key

The invariant: only `Store.build` renames into the store, after every byte has reached the disk and
the manifest was written last. The store knows no stage; it never looks into an artifact.
"""

import errno
import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from tasks.core.errors import CorruptArtifact, DiskFull
from tasks.core.files import TEMPORARY, FileDigest, digest_of, fsync_directory, fsync_tree
from tasks.core.keys import StageKey, to_jsonable
from tasks.core.locks import WAIT_S, Say, locked
from tasks.core.measure import Cost, measured
from tasks.core.store.manifest import MANIFEST, Manifest, read_manifest, write_manifest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Artifact:
    """A whole artifact of the store."""

    path: Path
    manifest: Manifest

    @property
    def key(self) -> StageKey:
        """The key that it was built under."""
        return self.manifest.stage_key

    @property
    def digest(self) -> str:
        """The identity of its bytes, which is what later stages depend on."""
        return self.manifest.content_digest


@dataclass(frozen=True)
class Built:
    """What `Store.build` returns: the artifact, and whether it was there already."""

    artifact: Artifact
    cached: bool


@dataclass
class Staging:
    """Where an attempt writes. What an earlier attempt with the same key left is still there."""

    path: Path
    facts: dict[str, JsonValue] = field(default_factory=dict)
    known: dict[str, FileDigest] = field(default_factory=dict)

    def record(self, files: Mapping[str, FileDigest]) -> None:
        """Take over digests that the writer computed in passing, so no file is read again."""
        self.known.update(files)

    def note(self, **facts: object) -> None:
        """Add what was found out while building to the manifest."""
        self.facts.update({name: to_jsonable(value, at=name) for name, value in facts.items()})


class Store:
    """The artifacts under one home directory. Safe for several processes at once.

    purpose is what this process works on, by default its command: other processes are told when
    they wait for it. say is told when this one waits.
    """

    def __init__(self, home: Path, purpose: str | None = None, say: Say = logger.warning) -> None:
        self.root = home / "store"
        self._purpose = purpose or " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])
        self._say = say

    def path_of(self, key: StageKey) -> Path:
        """Return where the artifact of this key stands once it is built."""
        return self.root / str(key)

    def find(self, key: StageKey) -> Artifact | None:
        """Return the artifact if it is there, with every file at its size; else None.

        Raises CorruptArtifact when it is there but not what its manifest says.
        """
        directory = self.path_of(key)
        manifest = read_manifest(directory)
        if manifest is None:
            return None
        if manifest.key != key.digest:
            raise CorruptArtifact("The manifest belongs to another key.", where=directory)
        problems = list(_wrong_sizes(directory, manifest))
        if problems:
            raise CorruptArtifact(
                "An artifact is damaged.",
                where=directory,
                found="; ".join(problems),
                next_step="`kawan-usaha store verify` shows all; the next run makes it again.",
            )
        return Artifact(directory, manifest)

    def named(self, name: str) -> Artifact | None:
        """Return the artifact with this directory name, like `find`."""
        manifest = read_manifest(self.root / name)
        return None if manifest is None else self.find(manifest.stage_key)

    def build(
        self,
        key: StageKey,
        write: Callable[[Staging], None],
        *,
        params: object = None,
        inputs: Mapping[str, str] | None = None,
        wait_s: float = WAIT_S,
    ) -> Built:
        """Return the artifact of this key, calling write only when it is missing or damaged.

        write gets a Staging directory that may hold what a killed attempt left. When it raises,
        nothing appears in the store and the staging directory stays for the next attempt. params
        and inputs are recorded as they are. Raises LockBusy after wait_s seconds, DiskFull when
        the disk runs full on the way.
        """
        what = f"{self._purpose}: {key.stage}"
        with locked(self.root / ".locks" / str(key), what, wait_s=wait_s, say=self._say):
            found = self._find_or_set_aside(key)
            if found is not None:
                return Built(found, cached=True)
            staging = Staging(self.root / ".staging" / str(key))
            try:
                _reopen(staging.path)
                with measured() as cost:
                    write(staging)
                artifact = self._commit(key, staging, cost, params, dict(inputs or {}))
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise DiskFull(
                    "The disk ran full while an artifact was written.",
                    where=self.root,
                    next_step="Free some space (`kawan-usaha store prune`) and run again: what is "
                    "finished stays finished.",
                ) from error
            return Built(artifact, cached=False)

    def artifacts(self) -> Iterator[Artifact]:
        """Yield every artifact with a readable manifest, oldest first."""
        found = [artifact for directory in self._directories() if (artifact := _open(directory))]
        yield from sorted(found, key=lambda artifact: artifact.manifest.created_at)

    def verify(self) -> dict[str, list[str]]:
        """Read every file of every artifact and return what is wrong, by artifact name.

        An artifact that is whole has an empty list.
        """
        return {
            directory.name: list(_wrong_content(directory)) for directory in self._directories()
        }

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep `prune` away while a run holds artifacts that nobody else refers to yet."""
        lock = self.root / ".locks" / "in-use"
        with locked(lock, self._purpose, shared=True, wait_s=60.0, say=self._say):
            yield

    def prune(self, keep: set[str], *, dry_run: bool = False) -> list[str]:
        """Remove every artifact whose name is not in keep, and every leftover; return their names.

        Names are those of the directories, `str(artifact.key)`. Raises LockBusy while a run is in
        progress.
        """
        with locked(self.root / ".locks" / "in-use", "store prune"):
            doomed = [d for d in self._directories() if d.name not in keep]
            leftovers = [*self._children(".staging"), *self._children(".corrupt")]
            if not dry_run:
                for directory in doomed:
                    self._remove(directory)
                for directory in [*leftovers, *self._children(".trash")]:
                    shutil.rmtree(directory)
            return [d.name for d in [*doomed, *leftovers]]

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
        aside = self.root / ".corrupt" / f"{key}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        aside.parent.mkdir(exist_ok=True)
        directory.rename(aside)
        return None

    def _commit(
        self, key: StageKey, staging: Staging, cost: Cost, params: object, inputs: dict[str, str]
    ) -> Artifact:
        names = sorted(
            str(path.relative_to(staging.path))
            for path in staging.path.rglob("*")
            if path.is_file()
        )
        files = {}
        for name in names:
            path = staging.path / name
            known = staging.known.get(name)
            whole = known is not None and known.size_bytes == path.stat().st_size
            files[name] = known if known is not None and whole else digest_of(path)
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
        )
        write_manifest(staging.path, manifest)
        target = self.path_of(key)
        staging.path.rename(target)
        fsync_directory(self.root)
        return Artifact(target, manifest)

    def _remove(self, directory: Path) -> None:
        """Take the name away first, so that a kill in the middle leaves no half artifact."""
        trash = self.root / ".trash"
        trash.mkdir(exist_ok=True)
        gone = directory.rename(trash / directory.name)
        shutil.rmtree(gone)

    def _directories(self) -> list[Path]:
        return [d for d in self._children(".") if not d.name.startswith(".")]

    def _children(self, name: str) -> list[Path]:
        parent = self.root / name
        return sorted(d for d in parent.iterdir() if d.is_dir()) if parent.is_dir() else []


def _reopen(staging: Path) -> None:
    """Make what an attempt left ready to go on, also if it was killed while it was sealed.

    A file with a second name is shared with a finished artifact and stays read-only.
    """
    staging.mkdir(parents=True, exist_ok=True)
    for path in [path for path in staging.rglob("*") if path.is_file()]:
        if path.name.startswith(TEMPORARY) or path == staging / MANIFEST:
            path.unlink()
        elif path.stat().st_nlink == 1:
            path.chmod(0o644)


def _open(directory: Path) -> Artifact | None:
    try:
        manifest = read_manifest(directory)
    except CorruptArtifact as error:
        logger.warning("%s", error)
        return None
    return None if manifest is None else Artifact(directory, manifest)


def _wrong_sizes(directory: Path, manifest: Manifest) -> Iterator[str]:
    for name, file in manifest.files.items():
        try:
            size = (directory / name).stat().st_size
        except FileNotFoundError:
            yield f"{name} is missing"
        else:
            if size != file.size_bytes:
                yield f"{name} has {size} bytes instead of {file.size_bytes}"


def _wrong_content(directory: Path) -> Iterator[str]:
    try:
        manifest = read_manifest(directory)
    except CorruptArtifact as error:
        yield error.what
        return
    if manifest is None:
        yield "there is no manifest: it was never whole"
        return
    sizes = list(_wrong_sizes(directory, manifest))
    yield from sizes
    for name, file in manifest.files.items():
        path = directory / name
        if not any(s.startswith(f"{name} ") for s in sizes) and digest_of(path) != file:
            yield f"{name} has other bytes than when it was made"
    known = {*manifest.files, MANIFEST}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_file() and name not in known:
            yield f"{name} was not there when it was made"
