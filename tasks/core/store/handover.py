"""Unfinished work that another machine can resume: its latest complete state, kept remotely.

    <url>/staging/<stage>-<key>/state.json       what the state consists of, replaced atomically
    <url>/staging/<stage>-<key>/files/<sha256>   its files
    <url>/staging/<stage>-<key>/signatures/...   who has made it (`seals.py`)

The work says what its latest complete state is, such as the checkpoint of a training; a thread
sends each new one. The invariants: a state counts there once all its files were read back; the work
is never delayed and never fails because of it; what is fetched is complete before it has the name
that the work looks for. Two machines that work on one key at once may cost each other a state, but
neither gets a wrong one.
"""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.errors import DiskFull, KawanUsahaError
from tasks.core.files.copies import link_or_copy
from tasks.core.files.digests import FileDigest, digest_of
from tasks.core.files.durable import fsync_tree
from tasks.core.files.foreign import leaves
from tasks.core.files.listing import paths_below
from tasks.core.files.locks import Say
from tasks.core.progress import quantity
from tasks.core.store.remote import STAGING, RemoteStore
from tasks.core.store.seals import Document
from tasks.core.store.transfers import FilePair, Transfer, TransferStopped
from tasks.core.system.errors import is_of_the_machine

logger = logging.getLogger(__name__)

POLL_S = 5.0
END_S = 3.0

Latest = Callable[[], Sequence[Path]]
"""Returns the files and directories that make up the latest complete state, none without one.

The last of them makes the state complete: it gets its name here after all others.
"""


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    paths: tuple[str, ...]
    files: dict[str, FileDigest]

    @property
    def digests(self) -> set[str]:
        """The SHA-256 of each file."""
        return {file.sha256 for file in self.files.values()}

    def is_sound(self) -> bool:
        """Return whether every name stays in its directory, and each path has a file."""
        stay = not any(map(leaves, (*self.paths, *self.files, *self.digests)))
        files = [PurePosixPath(name) for name in self.files]
        covered = {place for file in files for place in (file, *file.parents)}
        has_all = covered.issuperset(map(PurePosixPath, self.paths))
        return bool(self.paths) and stay and has_all


class Handover:
    """The unfinished work of one key, in a directory here and at the remote store."""

    def __init__(self, remote: RemoteStore, directory: Path, say: Say) -> None:
        self._remote, self._directory, self._say = remote, directory, say
        self._place, self._folder = remote.place, f"{STAGING}/{directory.name}"
        self._where = f"{remote.url}/{self._folder}"
        self._stop, self._over = threading.Event(), False
        self._told = False
        self._kept: tuple[str, ...] = ()

    @contextmanager
    def resumable(self, latest: Latest) -> Iterator[None]:
        """Fetch the state if there is none here; during the block, send each new one.

        After an exception the last state is sent as well. An interrupt does not wait for it.
        """
        if not latest():
            self._fetch()
        self._kept = self._names(latest())
        ended = threading.Event()
        thread = threading.Thread(
            target=self._watch, args=(latest, ended), name="handover", daemon=True
        )
        thread.start()
        try:
            yield
        except Exception:
            ended.set()
            while thread.is_alive():  # a transfer under way may be the last one
                thread.join(0.1)
            self._send_latest(latest)
            raise
        finally:
            ended.set()
            self._over = True
            self._stop.set()
            thread.join(END_S)

    def forget(self) -> None:
        """Remove what is kept remotely: the work is finished."""
        try:
            for name in sorted(self._place.files(self._folder), reverse=True):  # state.json first
                self._place.remove(f"{self._folder}/{name}")
        except (KawanUsahaError, OSError) as error:
            logger.warning("%s can be removed: the work is finished. %s", self._where, error)

    # --- sending --------------------------------------------------------------------------------

    def _watch(self, latest: Latest, ended: threading.Event) -> None:
        while not ended.wait(POLL_S):
            self._send_latest(latest)

    def _send_latest(self, latest: Latest) -> None:
        """Send the latest state unless it is there. A failure is reported once, never raised."""
        copy = self._directory.with_name(f"{self._directory.name}.offered")
        try:
            paths = latest()
            if not paths or self._names(paths) == self._kept:
                return
            state = self._copied(paths, copy)
            if self._names(latest()) != state.paths:  # it may have been removed meanwhile
                return
            self._send(state, copy)
            self._kept, self._told = state.paths, False
            self._say(f"{paths[-1].name} is kept at {self._where}")
        except (TransferStopped, FileNotFoundError):  # a newer state may have replaced the files
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the work goes on
            if not self._told:
                self._say(f"{self._directory.name} cannot be kept at the remote store now: {error}")
            self._told = True
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def _copied(self, paths: Sequence[Path], copy: Path) -> _State:
        """Link the files of a state, which the work may remove at any time, and hash them."""
        shutil.rmtree(copy, ignore_errors=True)
        files = {}
        for path in paths:
            for file in [path] if path.is_file() else paths_below(path):
                if not file.is_file():
                    continue
                name = str(file.relative_to(self._directory))
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(file, copy / name)
                files[name] = digest_of(copy / name)
        return _State(paths=self._names(paths), files=files)

    def _send(self, state: _State, copy: Path) -> None:
        before = self._read(self._content())
        self._stop = threading.Event()  # a transfer that fails sets its own
        if self._over:
            raise TransferStopped
        pairs = self._pairs(state, copy)
        Transfer(self._place, stop=self._stop).send(pairs, proved=frozenset())
        content = state.model_dump_json().encode()
        self._remote.signatures.sign(self._document(content))
        self._place.replace(f"{self._folder}/state.json", content)
        for sha256 in (before.digests if before is not None else set()) - state.digests:
            self._place.remove(f"{self._folder}/files/{sha256}")

    # --- fetching -------------------------------------------------------------------------------

    def _fetch(self) -> None:
        """Fetch the state, if there is one. A broken one is reported, and the work starts anew.

        Raises StorageUnavailable and DiskFull, because a sound state is worth another attempt.
        """
        fetched = self._directory.with_name(f"{self._directory.name}.handed")
        try:
            content = self._content()
            state = self._read(content)
            if content is None or state is None:
                return
            self._remote.signatures.require(self._document(content))
            size = quantity(sum(file.size_bytes for file in state.files.values()))
            last = PurePosixPath(state.paths[-1]).name
            name = self._directory.name
            self._say(f"{name}: resuming from {last} of another machine, {size}")
            Transfer(self._place).receive(self._pairs(state, fetched), here={})
            self._put_in_place(state, fetched)
        except (KawanUsahaError, OSError) as error:
            if _is_worth_another_attempt(error):
                raise
            self._say(f"The work at {self._where} cannot be resumed: {error}")
        shutil.rmtree(fetched, ignore_errors=True)

    def _put_in_place(self, state: _State, fetched: Path) -> None:
        fsync_tree(fetched)
        for name in state.paths:
            target = self._directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():  # incomplete, by the work's own account
                shutil.rmtree(target)
            (fetched / name).rename(target)

    def _content(self) -> bytes | None:
        return self._place.find(f"{self._folder}/state.json")

    def _read(self, content: bytes | None) -> _State | None:
        if content is None:
            return None
        try:
            state = _State.model_validate_json(content)
        except ValidationError as error:
            logger.warning("%s/state.json cannot be read: %s", self._where, error)
            return None
        return state if state.is_sound() else None

    def _document(self, content: bytes) -> Document:
        return Document(self._directory.name, "state.json", content, {}, folder=self._folder)

    def _pairs(self, state: _State, directory: Path) -> list[FilePair]:
        return [
            FilePair(directory / name, f"{self._folder}/files/{digest.sha256}", digest)
            for name, digest in state.files.items()
        ]

    def _names(self, paths: Sequence[Path]) -> tuple[str, ...]:
        return tuple(str(path.relative_to(self._directory)) for path in paths)


def _is_worth_another_attempt(error: KawanUsahaError | OSError) -> bool:
    if isinstance(error, KawanUsahaError):
        return error.retryable or isinstance(error, DiskFull)
    return is_of_the_machine(error)  # else the names of a state contradict each other
