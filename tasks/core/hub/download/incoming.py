"""A source on its way here: what there is of it at any moment, for work that begins before the end.

The download tells, from the threads that fetch; whoever works ahead asks. Bytes are readable as
soon as they are told of and proven only when their file is whole: between the two, what is made of
them must not count. `turn` says of which attempt at a file bytes are, because one that came wrong
is fetched anew, in another file of the same name.

The invariant: what is `proven` was checked against the Hub's word, byte by byte, in this turn.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from tasks.core.files.digests import FileDigest
from tasks.core.hub.download.file import part_of
from tasks.core.hub.download.model import is_large, missing_bytes
from tasks.core.hub.download.upstream import Upstream
from tasks.core.store.shelf import Artifact


@dataclass
class _File:
    """One file: what it will be, as far as the Hub has said, and what there is of it."""

    announced: FileDigest | None
    large: bool = False
    turn: int = 0
    size_bytes: int = 0
    content: FileDigest | None = None


class Coming:
    """One source, from the first question to the artifact. Any thread may use it."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self._lock = Lock()
        self._files: dict[str, _File] = {}
        self._directories: tuple[Path, ...] = ()
        self._settled: Artifact | None = None

    def expect(self, directory: Path, becomes: Path) -> None:
        """Take over what the Hub announces; it is fetched into directory. A retry calls again.

        Once whole, directory is moved to becomes, and may be brought to a remote store, which can
        take long, before `settle` is called.
        """
        files = self.upstream.model().files
        with self._lock:
            self._directories = directory, becomes
            for file in files:
                sha256 = file.sha256
                announced = None if sha256 is None else FileDigest(file.size_bytes, sha256)
                self._files.setdefault(file.path, _File(announced, is_large(file)))

    def grown(self, name: str, size_bytes: int) -> None:
        """See `fetch.Listener`."""
        self._files[name].size_bytes = size_bytes

    def lost(self, name: str) -> None:
        """See `fetch.Listener`."""
        with self._lock:
            file = self._files[name]
            file.turn, file.size_bytes, file.content = file.turn + 1, 0, None

    def whole(self, name: str, content: FileDigest) -> None:
        """See `fetch.Listener`."""
        with self._lock:
            file = self._files[name]
            file.size_bytes, file.content = content.size_bytes, content

    def settle(self, artifact: Artifact) -> None:
        """Say that the source is an artifact of the store now."""
        with self._lock:
            turns = {name: file.turn for name, file in self._files.items()}
            self._files = {
                name: _File(content, False, turns.get(name, 0), content.size_bytes, content)
                for name, content in artifact.manifest.files.items()
            }
            self._directories, self._settled = (artifact.path,), artifact

    @property
    def artifact(self) -> Artifact | None:
        """The artifact, None while the source is not whole."""
        return self._settled

    @property
    def begins(self) -> bool:
        """Whether all but the large weights are there."""
        with self._lock:
            return bool(self._directories) and all(
                file.content is not None for file in self._files.values() if not file.large
            )

    @property
    def directory(self) -> Path:
        """Where the whole source is. Raises RuntimeError while it is on its way."""
        if self._settled is None:
            raise RuntimeError(f"{self.upstream.source} is on its way")
        return self._settled.path

    def missing_bytes(self) -> int:
        """Return how many bytes are still to be fetched."""
        if self._settled is not None:
            return 0
        model = self.upstream.model()
        return min(missing_bytes(model, directory) for directory in self._directories)

    def contents(self) -> Mapping[str, FileDigest] | None:
        """Return what every file will be, None while that is not known of all of them."""
        with self._lock:
            known = {name: file.content or file.announced for name, file in self._files.items()}
            if not self._directories or None in known.values():
                return None
            return {name: content for name, content in known.items() if content is not None}

    def places(self, name: str) -> tuple[Path, ...]:
        """Return under which names a file may be found now, the first one that exists."""
        targets = [directory / name for directory in self._directories]
        return tuple(place for target in targets for place in (target, part_of(target)))

    def there(self, name: str) -> tuple[int, int]:
        """Return the turn of a file, and how many bytes of it are there."""
        with self._lock:
            file = self._files[name]
            return file.turn, file.size_bytes

    def proven(self, name: str) -> bool:
        """Return whether all bytes of a file were found right, in its turn of now."""
        with self._lock:
            return self._files[name].content is not None
