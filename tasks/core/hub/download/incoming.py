"""A source while it is downloaded: what has arrived so far, for work that begins before the end.

The download reports from its threads; work ahead reads from any thread. Bytes can be read as soon
as they are reported and are proven only when their file is complete: until then, nothing
made from them may count. A file that arrived wrong is downloaded anew into another file of the same
name; its `turn` tells the attempts apart.

The invariant: what is `proven` was checked against the Hub's metadata, byte by byte, in this turn.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from tasks.core.files.digests import FileDigest
from tasks.core.hub.download.file import part_of
from tasks.core.hub.download.model import is_large, missing_bytes
from tasks.core.hub.download.pinned import PinnedSource
from tasks.core.store.shelf import Artifact


@dataclass
class _File:
    """One file: what the Hub has announced of it, and what has arrived."""

    announced: FileDigest | None
    large: bool = False
    turn: int = 0
    size_bytes: int = 0
    content: FileDigest | None = None


class IncomingSource:
    """One source, from the first question to the artifact. Any thread may use it."""

    def __init__(self, pinned: PinnedSource) -> None:
        self.pinned = pinned
        self._lock = Lock()
        self._files: dict[str, _File] = {}
        self._directories: tuple[Path, ...] = ()
        self._settled: Artifact | None = None

    def expect(self, directory: Path, becomes: Path) -> None:
        """Note what the Hub announces, and that it is downloaded into directory.

        A retry calls again. Once complete, directory is moved to becomes, and may be copied to a
        remote store, which can take long, before `settle` is called.
        """
        files = self.pinned.model().files
        with self._lock:
            self._directories = directory, becomes
            for file in files:
                sha256 = file.sha256
                announced = None if sha256 is None else FileDigest(file.size_bytes, sha256)
                self._files.setdefault(file.path, _File(announced, is_large(file)))

    def grown(self, name: str, size_bytes: int) -> None:
        """See `file.Listener`."""
        self._files[name].size_bytes = size_bytes

    def lost(self, name: str) -> None:
        """See `file.Listener`."""
        with self._lock:
            file = self._files[name]
            file.turn, file.size_bytes, file.content = file.turn + 1, 0, None

    def whole(self, name: str, content: FileDigest) -> None:
        """See `file.Listener`."""
        with self._lock:
            file = self._files[name]
            file.size_bytes, file.content = content.size_bytes, content

    def settle(self, artifact: Artifact) -> None:
        """Note that the source is an artifact of the store now."""
        with self._lock:
            turns = {name: file.turn for name, file in self._files.items()}
            self._files = {
                name: _File(content, False, turns.get(name, 0), content.size_bytes, content)
                for name, content in artifact.manifest.files.items()
            }
            self._directories, self._settled = (artifact.path,), artifact

    @property
    def artifact(self) -> Artifact | None:
        """The artifact, None while the source is incomplete."""
        return self._settled

    @property
    def begins(self) -> bool:
        """Whether everything but the large weights has arrived."""
        with self._lock:
            return bool(self._directories) and all(
                file.content is not None for file in self._files.values() if not file.large
            )

    @property
    def directory(self) -> Path:
        """The directory of the complete source. Raises RuntimeError while it is downloaded."""
        if self._settled is None:
            raise RuntimeError(f"{self.pinned.source} is still being downloaded")
        return self._settled.path

    def missing_bytes(self) -> int:
        """Return how many bytes are still to be downloaded."""
        if self._settled is not None:
            return 0
        model = self.pinned.model()
        return min(missing_bytes(model, directory) for directory in self._directories)

    def contents(self) -> Mapping[str, FileDigest] | None:
        """Return what every file will be, None while that is unknown for one of them."""
        with self._lock:
            known = {name: file.content or file.announced for name, file in self._files.items()}
            if not self._directories or None in known.values():
                return None
            return {name: content for name, content in known.items() if content is not None}

    def places(self, name: str) -> tuple[Path, ...]:
        """Return the paths at which a file may lie now; the first that exists is the file."""
        targets = [directory / name for directory in self._directories]
        return tuple(place for target in targets for place in (target, part_of(target)))

    def there(self, name: str) -> tuple[int, int]:
        """Return the turn of a file, and how many of its bytes have arrived."""
        with self._lock:
            file = self._files[name]
            return file.turn, file.size_bytes

    def proven(self, name: str) -> bool:
        """Return whether every byte of a file was checked in its present turn."""
        with self._lock:
            return self._files[name].content is not None
