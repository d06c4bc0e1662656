"""The artifacts that several machines share: one folder or bucket, named by KAWAN_USAHA_REMOTE.

    <url>/<stage>-<key>/manifest.json   an artifact: complete, or not there
    <url>/files/<sha256>                the files of all artifacts, each content once
    <url>/staging/<stage>-<key>/...     what unfinished work resumes from (`handover.py`)
    <url>/releases/<recipe>/...         what was released, by which run (`releases.py`)
    <url>/signatures/<sha256>/...       who has signed a manifest or a release (`seals.py`)

The invariants: a manifest is written last, after every file that it names was read back, and only
if there is none yet: of several machines that finish one key at once, the first one counts. A file
is named by its content, so that no writer can spoil another's. Nothing is ever removed except under
staging/. Credentials come from the environment of the fsspec library, never from the URL.
"""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import (
    CorruptArtifact,
    CorruptRemote,
    UsageError,
)
from tasks.core.progress import OnProgress, silent
from tasks.core.storage.urls import in_time
from tasks.core.store.manifest import MANIFEST, Manifest, parse_manifest
from tasks.core.store.privacy import may_leave
from tasks.core.store.seals import SIGNATURES, Document, RemoteSignatures, Seals, configured_seals
from tasks.core.store.transfers import FilePair, Transfer

if TYPE_CHECKING:
    from tasks.core.storage.directory import StorageDirectory

REMOTE_VARIABLE = "KAWAN_USAHA_REMOTE"
FILES = "files"
STAGING = "staging"
RELEASES = "releases"


@dataclass(frozen=True)
class RemoteArtifact:
    """An artifact as a remote store has it: its manifest, parsed and as the exact bytes."""

    manifest: Manifest
    content: bytes

    @property
    def name(self) -> str:
        """The name of its directory, there and here."""
        return str(self.manifest.stage_key)

    @property
    def digest(self) -> str:
        """The digest of its content."""
        return self.manifest.content_digest

    @property
    def document(self) -> Document:
        """What is signed of it."""
        return Document.of_manifest(self.manifest, self.content)


@dataclass(frozen=True)
class RemoteStore:
    """A remote store. Safe for any number of machines at once.

    seals says whose artifacts are accepted from there, and signs what is pushed; takes_private says
    whether artifacts that hold what people wrote are pushed too.
    """

    place: "StorageDirectory"
    seals: Seals = field(default_factory=Seals)
    takes_private: bool = False

    @property
    def url(self) -> str:
        """Its URL, without credentials."""
        return self.place.url

    @property
    def signatures(self) -> RemoteSignatures:
        """The signatures there."""
        return RemoteSignatures(self.place, self.seals)

    @classmethod
    def open(
        cls, url: str, seals: Seals | None = None, *, takes_private: bool = False
    ) -> "RemoteStore":
        """Return the remote store at a URL; nothing is asked there yet.

        Raises UsageError for a URL of an unknown protocol or with a user in it, and MissingTool.
        """
        # It loads fsspec, and most homes have no remote store.
        from tasks.core.storage.directory import StorageDirectory

        place = StorageDirectory.open(url, REMOTE_VARIABLE)
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise UsageError(
                "The URL of the remote store must not contain a user or password.",
                where=REMOTE_VARIABLE,
                found=place.url,
                next_step="Leave it out; credentials come from the environment, such as "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
            )
        return cls(place, seals or Seals(), takes_private)

    def require_usable(self) -> None:
        """Return once a file was written, read and removed there.

        Raises as `StorageDirectory` does: StorageRefused, and StorageUnavailable also where no
        answer comes in time.
        """
        in_time(self._probe, where=self.url)

    def _probe(self) -> None:
        self.place.require_root()
        self.place.probe()
        self.place.require_create()

    def find(self, name: str) -> RemoteArtifact | None:
        """Return the artifact of this name, by its manifest alone; None when it is not there.

        Raises CorruptRemote for a manifest that cannot be read or belongs to another artifact.
        """
        content = self.place.find(f"{name}/{MANIFEST}")
        if content is None:
            return None
        where = f"{self.url}/{name}/{MANIFEST}"
        try:
            manifest = parse_manifest(content, where=where)
        except CorruptArtifact as error:
            raise CorruptRemote(error.what, where=where, found=error.found) from error
        if str(manifest.stage_key) != name:
            found = str(manifest.stage_key)
            raise CorruptRemote("The manifest belongs to another key.", where=where, found=found)
        return RemoteArtifact(manifest, content)

    def find_or_none(self, name: str) -> RemoteArtifact | None:
        """Return the artifact of this name, None when there is none or its manifest is broken."""
        try:
            return self.find(name)
        except CorruptRemote:
            return None

    def names(self) -> list[str]:
        """Return the names of all folders there that may be artifacts; opens none of them."""
        ours = (FILES, STAGING, RELEASES, SIGNATURES)
        return [name for name in self.place.folders("") if name not in ours]

    def artifacts(self) -> Iterator[tuple[str, RemoteArtifact | CorruptRemote]]:
        """Yield every artifact by name; the error in place of one with a broken manifest.

        Folders without a manifest are not ours, and skipped.
        """
        for name in self.names():
            try:
                found = self.find(name)
            except CorruptRemote as error:
                yield name, error
            else:
                if found is not None:
                    yield name, found

    def fetch(
        self,
        artifact: RemoteArtifact,
        out: Path,
        here: Mapping[str, Path],
        *,
        largest_bytes: float = math.inf,
        on_progress: OnProgress = silent,
    ) -> None:
        """Fetch the files of an artifact into a directory, which may hold some of them.

        `here` names files of this machine by SHA-256, which need not be fetched; files above
        `largest_bytes` are left out. Raises as `Transfer.receive`.
        """
        pairs = [p for p in _pairs(artifact.manifest, out) if p.digest.size_bytes <= largest_bytes]
        Transfer(self.place, on_progress).receive(pairs, here=here)

    def push(
        self,
        directory: Path,
        ours: RemoteArtifact,
        *,
        signatures: Mapping[str, bytes],
        proved: frozenset[str],
        repair: bool,
        on_progress: OnProgress,
    ) -> RemoteArtifact:
        """Push an artifact and return the one that counts there, which may be another machine's.

        If there is one already, only signatures of it are sent, by the fingerprints of their keys.
        With `repair` what is there is known to be broken, and ours replaces it. Raises as
        `Transfer.send`.
        """
        theirs = None if repair else self.find_or_none(ours.name)
        if theirs is None or theirs.content == ours.content:
            self.signatures.add(ours.document, signatures)
        if theirs is not None:
            return theirs
        pairs = _pairs(ours.manifest, directory)
        Transfer(self.place, on_progress).send(pairs, proved=frozenset() if repair else proved)
        self.place.sync_names(FILES)
        return self._named(ours, repair=repair)

    def _named(self, ours: RemoteArtifact, *, repair: bool) -> RemoteArtifact:
        """Write the manifest, unless another machine was first; return the artifact that counts."""
        manifest = f"{ours.name}/{MANIFEST}"
        if repair or not self.place.create(manifest, ours.content):
            if not repair and (first := self.find_or_none(ours.name)) is not None:
                return first
            self.place.replace(manifest, ours.content)
        return ours


def configured_remote() -> RemoteStore | None:
    """Return the remote store that KAWAN_USAHA_REMOTE names, None when it names none.

    Raises as `RemoteStore.open`, `configured_seals` and `may_leave`.
    """
    url = os.environ.get(REMOTE_VARIABLE, "").strip()
    if not url:
        return None
    return RemoteStore.open(url, configured_seals(), takes_private=may_leave())


def _pairs(manifest: Manifest, directory: Path) -> list[FilePair]:
    return [
        FilePair(directory / name, f"{FILES}/{digest.sha256}", digest)
        for name, digest in manifest.files.items()
    ]
