"""Content-addressed, immutable artifacts in one directory.

    <home>/store/<stage>-<key>/   manifest.json and the files, read-only: complete, or not there
    <home>/store/.staging/<...>   what an attempt has written so far
    <home>/store/.freed/<...>     manifest and small files of an artifact whose others were freed
    <home>/store/.corrupt/<...>   artifacts that were found damaged, set aside
    <home>/store/.trash/<...>     what an interrupted removal has left
    <home>/store/.pushed/<...>    which artifacts the remote store has, if there is one
    <home>/store/.signed/<...>    signatures of artifacts (`kept_signatures.py`)
    <home>/store/.locks/<...>     one lock per key

`shelf.py` looks, `upkeep.py` keeps order, `commit.py` turns a staging directory into an artifact,
and this module builds and shares. The invariant: only `Store` renames into the store, after every
byte has reached the disk and the manifest was written last. The store knows no stage and never
looks into an artifact. For `find` and `build` a freed artifact does not exist; its manifest stays,
so that a run can do without it until a stage has to read it (`run.py`), and so do its small files,
such as a model's card and configuration.

With a remote store (`remote.py`) an artifact that is missing here is looked for there before it is
built, and one that is finished here is pushed there.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import CorruptArtifact, DiskFull
from tasks.core.files.disk_space import disk_is_full
from tasks.core.files.locks import WAIT_S, Say
from tasks.core.keys import StageKey
from tasks.core.signing import SigningKey
from tasks.core.store.commit import move_in, reopen, seal, seal_fetched
from tasks.core.store.handover import Handover
from tasks.core.store.kept_signatures import KeptSignatures
from tasks.core.store.privacy import any_private
from tasks.core.store.remote import RemoteArtifact, RemoteStore
from tasks.core.store.seals import Document
from tasks.core.store.sharing import Sharing
from tasks.core.store.shelf import Artifact
from tasks.core.store.staging import Staging
from tasks.core.store.upkeep import MaintainedShelf
from tasks.core.system.measure import Cost, measured

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Built:
    """What `Store.build` returns: the artifact, and whether it existed already."""

    artifact: Artifact
    cached: bool


@dataclass(frozen=True)
class Work:
    """How one artifact is built, as `Store.build` describes."""

    key: StageKey
    write: Callable[[Staging], None]
    params: object
    inputs: Mapping[str, str]
    needs: Sequence[str]
    before: Callable[[Staging], None] | None
    wait_s: float


class Store(MaintainedShelf):
    """Builds artifacts, and shares them with other machines. Safe for several processes at once.

    purpose is what this process works on, by default its command: it is shown to processes that
    wait for this one. say gets a line for what is fetched and pushed; waits, a line for each lock
    that this process waits for, by default say. key signs what is built here.
    """

    def __init__(
        self,
        home: Path,
        purpose: str | None = None,
        say: Say = logger.warning,
        *,
        waits: Say | None = None,
        remote: RemoteStore | None = None,
        key: SigningKey | None = None,
    ) -> None:
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])
        super().__init__(home, purpose or command, waits or say)
        self._key = key
        self._say = say
        self._sharing = None if remote is None else Sharing(self, remote, say)

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
        nothing appears in the store, and the staging directory stays for the next attempt. params
        and inputs are recorded as they are. needs names the artifacts that write reads; they are
        not freed meanwhile. before does what can be done while these are still being made, and
        returns once they are; it holds none of their locks. Raises LockBusy after wait_s seconds,
        DiskFull when the disk fills up on the way, and with a remote store StorageUnavailable or
        StorageRefused, after which what is finished here is still there.
        """
        return self._build(Work(key, write, params, inputs or {}, needs, before, wait_s))

    def _build(self, work: Work) -> Built:
        key = work.key
        nothing_to_do = self._complete(key, work.wait_s)
        if nothing_to_do is not None:
            return Built(nothing_to_do, cached=True)
        with self._locked(str(key), key.stage, wait_s=work.wait_s), self._disk_full_explained():
            found = self._find_or_set_aside(key) or self._fetched(str(key))
            if found is not None:
                return Built(self._shared(found), cached=True)
            staging = self._staging(key)
            artifact = self._committed(work, staging, self._written(work, staging))
            shared = self._shared(artifact)
            staging.forget()
            return Built(shared, cached=False)

    def _complete(self, key: StageKey, wait_s: float) -> Artifact | None:
        """Return an artifact that needs nothing more, even while other processes read it.

        Waits only for one that is being built just now.
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
        handover = None if self.remote is None else Handover(self.remote, path, self._say)
        return Staging(path, handover=handover)

    def _written(self, work: Work, staging: Staging) -> Cost:
        """Have the work written into its staging directory; return what it cost."""
        reopen(staging.path)
        ahead = Cost()
        if work.before is not None:
            with measured() as ahead:
                work.before(staging)
        with self.present(work.needs), measured() as cost:
            if any_private(self.root, work.needs):
                staging.keep_private()
            work.write(staging)
        return ahead.and_then(cost, waited_s=staging.waited_s)

    def _committed(self, work: Work, staging: Staging, cost: Cost) -> Artifact:
        manifest = seal(staging, work.key, cost, work.params, work.inputs)
        kept = KeptSignatures(self.root, str(work.key))
        kept.forget()
        if self._key is not None:  # before the artifact has its name
            document = Document.of_artifact(staging.path, manifest)
            kept.add({self._key.fingerprint: document.signed_with(self._key)})
        return move_in(staging.path, self.path_of(work.key), manifest)

    @contextmanager
    def _disk_full_explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not disk_is_full(error):
                raise
            raise DiskFull(
                "The disk filled up while an artifact was written.",
                where=self.root,
                found=error,
                next_step="Free some space and run again: what is finished stays finished.",
            ) from error

    # --- the remote store -----------------------------------------------------------------------

    @property
    def remote(self) -> RemoteStore | None:
        """The remote store, None without one."""
        return None if self._sharing is None else self._sharing.remote

    def push(self, name: str) -> Artifact | None:
        """Push an artifact to the remote store; return what is here then, None without one.

        Checks the remote store even where the artifact is noted to be there. Raises as `build`.
        """
        with self._locked(name, "push"):
            artifact = self._named_or_set_aside(name)
            return None if artifact is None else self._shared(artifact, ask=True)

    def pull(self, name: str) -> Artifact | None:
        """Return the artifact of this name, fetched if it is not here; None without one."""
        with self._locked(name, "pull"), self._disk_full_explained():
            return self._named_or_set_aside(name) or self._fetched(name)

    def is_shared(self, artifact: Artifact) -> bool | None:
        """Return whether the remote store is known to have this artifact; None without one."""
        return None if self._sharing is None else self._sharing.is_shared(artifact)

    def _fetched(self, name: str) -> Artifact | None:
        """Return an artifact fetched from the remote store; None if it is not there.

        One that was freed here must come back with the same content: later stages were made of it.
        """
        if self._sharing is None:
            return None
        freed = self.freed(name)
        found = self._sharing.find(name, None if freed is None else freed.digest)
        return None if found is None else self._sharing.fetch(found, self._commit_fetched)

    def _shared(self, artifact: Artifact, *, ask: bool = False) -> Artifact:
        """Push an artifact; return it, or the one that another machine had pushed before.

        Another machine's replaces ours only if nothing was made of ours yet.
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
        self._say(f"{theirs.name}: another machine was first, so its artifact is used.")
        return sharing.fetch(theirs, self._commit_fetched) or self._shared(artifact)

    def _commit_fetched(self, directory: Path, fetched: RemoteArtifact) -> Artifact:
        target = self.root / fetched.name
        seal_fetched(directory, fetched)
        if target.exists():
            self._remove(target)
        return move_in(directory, target, fetched.manifest)
