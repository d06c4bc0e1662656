"""The artifacts that several machines share: one folder or bucket, named by KAWAN_USAHA_REMOTE.

    <url>/<stage>-<key>/manifest.json   an artifact: whole, or not there
    <url>/files/<sha256>                the files of all artifacts, each content once
    <url>/staging/<stage>-<key>/...     what unfinished work goes on from (`handover.py`)
    <url>/releases/<recipe>/...         what was released, by which run (`releases.py`)
    <url>/signatures/<sha256>/...       who has made a manifest or a release (`seals.py`)

The invariants: a manifest is written last, when every file that it names was read back, and only
if there is none: of several machines that finish one key at once the first one's counts. A file is
named by what it holds, so no writer can spoil another's. Nothing is ever removed but what lies
under staging/. Keys come from the environment of the fsspec library, never from the URL.
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
from tasks.core.store.seals import SIGNATURES, Document, Seals, configured_seals
from tasks.core.store.transfers import Way, receive, send

if TYPE_CHECKING:
    from tasks.core.storage.directory import StorageDirectory

REMOTE_VARIABLE = "KAWAN_USAHA_REMOTE"
FILES = "files"
STAGING = "staging"
RELEASES = "releases"


@dataclass(frozen=True)
class Shared:
    """An artifact at the remote store, by its manifest and the very bytes of that."""

    manifest: Manifest
    content: bytes

    @property
    def name(self) -> str:
        """The name of its directory, there and here."""
        return str(self.manifest.stage_key)

    @property
    def digest(self) -> str:
        """The identity of its bytes."""
        return self.manifest.content_digest

    @property
    def document(self) -> Document:
        """What is signed of it."""
        return Document.of_manifest(self.manifest, self.content)


@dataclass(frozen=True)
class Remote:
    """A remote store. Safe for any number of machines at once.

    seals says whose artifacts are taken from there, and signs what is brought there; takes_private,
    whether what people wrote is brought there too.
    """

    place: "StorageDirectory"
    seals: Seals = field(default_factory=Seals)
    takes_private: bool = False

    @property
    def url(self) -> str:
        """Where it is."""
        return self.place.url

    @classmethod
    def open(cls, url: str, seals: Seals | None = None, *, takes_private: bool = False) -> "Remote":
        """Return the remote store at a URL; nothing is asked there yet.

        Raises UsageError for a URL of no known kind or with a user in it, MissingTool.
        """
        from tasks.core.storage.directory import (
            StorageDirectory,
        )  # fsspec: most homes have no remote store

        place = StorageDirectory.open(url, REMOTE_VARIABLE)
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise UsageError(
                "A user or password has no place in the URL of the remote store.",
                where=REMOTE_VARIABLE,
                found=place.url,
                next_step="Leave it out; keys come from the environment, such as "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
            )
        return cls(place, seals or Seals(), takes_private)

    def require_usable(self) -> None:
        """Return when files can be written there, read and removed.

        Raises as `StorageDirectory` does: StorageRefused, StorageUnavailable, also where there is
        no answer in time.
        """
        in_time(self._probe, where=self.url)

    def _probe(self) -> None:
        self.place.require_root()
        self.place.probe()
        self.place.require_create()

    def find(self, name: str) -> Shared | None:
        """Return the artifact of this name, by its manifest alone; None when it is not there.

        Raises CorruptRemote for a manifest that cannot be read or is another one's.
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
        return Shared(manifest, content)

    def names(self) -> list[str]:
        """Return the names that artifacts may have there; nothing is opened."""
        ours = (FILES, STAGING, RELEASES, SIGNATURES)
        return [name for name in self.place.folders("") if name not in ours]

    def artifacts(self) -> Iterator[tuple[str, Shared | CorruptRemote]]:
        """Yield every artifact by name; one with a broken manifest as the error that tells of it.

        Folders without a manifest are somebody else's, and passed over.
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
        shared: Shared,
        out: Path,
        here: Mapping[str, Path],
        *,
        largest_bytes: float = math.inf,
        on_progress: OnProgress = silent,
    ) -> None:
        """Bring the files of an artifact into a directory, which may hold some of them.

        `here` names files of this machine by SHA-256, which need not be fetched; files above
        `largest_bytes` are left out. Raises as `transfers.receive`.
        """
        ways = [w for w in _ways(shared.manifest, out) if w.digest.size_bytes <= largest_bytes]
        receive(self.place, ways, here=here, on_progress=on_progress)

    def push(
        self,
        directory: Path,
        ours: Shared,
        *,
        signatures: Mapping[str, bytes] | None = None,
        proved: frozenset[str] = frozenset(),
        repair: bool = False,
        on_progress: OnProgress = silent,
    ) -> Shared:
        """Bring an artifact there and return the one that counts there, which may be another's.

        Nothing is sent when there is one, but for signatures of it, by what their keys are known
        by. With `repair` what is there is known to be broken, and
        ours takes its place. Raises as `transfers.send`.
        """
        manifest = f"{ours.name}/{MANIFEST}"
        theirs = None if repair else self.find_or_none(ours.name)
        if theirs is None or theirs.content == ours.content:
            self.seals.share(self.place, ours.document, signatures or {})
        if theirs is not None:
            return theirs
        ways = _ways(ours.manifest, directory)
        send(self.place, ways, proved=frozenset() if repair else proved, on_progress=on_progress)
        self.place.sync_names(FILES)
        if repair or not self.place.create(manifest, ours.content):
            if not repair and (first := self.find_or_none(ours.name)) is not None:
                return first
            self.place.replace(manifest, ours.content)
        return ours

    def find_or_none(self, name: str) -> Shared | None:
        """Return the artifact of this name, None when there is none or its manifest is broken."""
        try:
            return self.find(name)
        except CorruptRemote:
            return None


def configured_remote() -> Remote | None:
    """Return the remote store that KAWAN_USAHA_REMOTE names, None when it names none.

    Raises as `Remote.open`, `configured_seals` and `may_leave`.
    """
    url = os.environ.get(REMOTE_VARIABLE, "").strip()
    if not url:
        return None
    return Remote.open(url, configured_seals(), takes_private=may_leave())


def _ways(manifest: Manifest, directory: Path) -> list[Way]:
    return [
        Way(directory / name, f"{FILES}/{digest.sha256}", digest)
        for name, digest in manifest.files.items()
    ]
