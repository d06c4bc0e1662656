"""One directory or bucket, as publishing sees it, over fsspec.

Paths are relative to the place and use `/`. Invariant: `replace` gives a name its content all at
once; an object store does so by itself, a local file by a rename.
"""

import hashlib
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from tasks.core.errors import BucketMissing, StorageRefused, UploadCorrupt
from tasks.core.files import CHUNK_BYTES, FileDigest, fsync_tree, write_atomically
from tasks.core.storage import open_storage, shown, storage_failures
from tasks.core.storage_errors import storage_error

_PROBE = ".kawan-usaha-probe"


@dataclass(frozen=True)
class Place:
    """An fsspec filesystem and the folder of it that is published to.

    url is for people: without the user and password that it may have been opened with.
    """

    url: str
    _fs: Any
    _root: str

    @classmethod
    def open(cls, url: str) -> "Place":
        """Return the place at a path or URL.

        Raises what `open_storage` raises.
        """
        filesystem, root = open_storage(url, "publish.target")
        return cls(shown(url), filesystem, root)

    def exists(self, path: str) -> bool:
        """Return whether there is something at path."""
        with storage_failures(self.url):
            return bool(self._fs.exists(self._at(path)))

    def read(self, path: str) -> bytes:
        """Return the content of a small file."""
        with storage_failures(self.url):
            return bytes(self._fs.cat_file(self._at(path)))

    def digest(self, path: str) -> FileDigest | None:
        """Return size and SHA-256 of what can be read at path now, None when there is nothing."""
        with storage_failures(self.url):
            if not self._fs.isfile(self._at(path)):
                return None
            sha256, size = hashlib.sha256(), 0
            with self._fs.open(self._at(path), "rb", cache_type="none") as file:
                while chunk := file.read(CHUNK_BYTES):
                    sha256.update(chunk)
                    size += len(chunk)
            return FileDigest(size, sha256.hexdigest())

    def files(self, folder: str) -> dict[str, int]:
        """Return the size of every file under folder, by its name there."""
        with storage_failures(self.url):
            self._fs.invalidate_cache()
            found = self._fs.find(self._at(folder), detail=True)
        prefix = self._at(folder) + "/"
        return {name.removeprefix(prefix): int(info["size"]) for name, info in found.items()}

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders inside folder."""
        with storage_failures(self.url):
            if not self._fs.exists(self._at(folder)):
                return []
            entries = self._fs.ls(self._at(folder), detail=True)
        return sorted(
            str(entry["name"]).rstrip("/").rsplit("/", 1)[-1]
            for entry in entries
            if entry["type"] == "directory"
        )

    def send(self, source: Path | bytes, path: str) -> None:
        """Copy a local file, or bytes, to path."""
        with storage_failures(self.url):
            if isinstance(source, bytes):
                self._into_folder(path, lambda: self._fs.pipe_file(self._at(path), source))
            else:
                self._into_folder(path, lambda: self._fs.put_file(str(source), self._at(path)))

    def remove(self, path: str) -> None:
        """Delete one file."""
        with storage_failures(self.url):
            self._fs.rm_file(self._at(path))

    def sync(self, folder: str) -> None:
        """Return when everything in folder is durable; an object store never answers earlier."""
        if isinstance(self._fs, LocalFileSystem):
            with storage_failures(self.url):
                fsync_tree(Path(self._at(folder)))

    def replace(self, path: str, content: bytes) -> None:
        """Give path this content, all at once."""
        with storage_failures(self.url):
            if isinstance(self._fs, LocalFileSystem):
                Path(self._at(path)).parent.mkdir(parents=True, exist_ok=True)
                write_atomically(Path(self._at(path)), content)
            else:
                self._into_folder(path, lambda: self._fs.pipe_file(self._at(path), content))

    def probe(self) -> None:
        """Return when a small file can be written here and read back; it is removed again.

        A directory of this machine that is not there is not made. Raises as all methods do.
        """
        with storage_failures(self.url):
            if isinstance(self._fs, LocalFileSystem):
                existing = Path(self._root or "/")
                while not existing.exists():
                    existing = existing.parent
                with tempfile.TemporaryFile(dir=existing):
                    return
        content = b"It is tried whether a model can be published here."
        self.send(content, _PROBE)
        if self.read(_PROBE) != content:
            raise UploadCorrupt(
                "What arrived is not what was sent.",
                where=self.url,
                next_step="Look what changes files on the way there, a proxy for example.",
            )
        with suppress(StorageRefused):  # publishing itself removes nothing
            self.remove(_PROBE)

    def _into_folder(self, path: str, write: Callable[[], object]) -> None:
        """Write, after making the folder only where that turns out to be needed.

        An object store has no folders: makedirs would make a bucket there, of a mistyped name.
        """
        try:
            write()
        except FileNotFoundError as error:
            if isinstance(storage_error(error), BucketMissing):
                raise
            self._fs.makedirs(self._fs._parent(self._at(path)), exist_ok=True)
            write()

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"
