"""One directory or bucket, as publishing sees it, over fsspec.

Paths are relative to the place and use `/`. Invariant: `replace` gives a name its content all at
once; an object store does so by itself, a local file by a rename.
"""

import errno
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from tasks.core.errors import DiskFull, HubUnavailable, MissingTool, UsageError
from tasks.core.files import CHUNK_BYTES, FileDigest, fsync_tree, write_atomically

_USER = re.compile(r"://[^/]*@")


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

        Raises MissingTool when the protocol's package is not installed, UsageError when there is
        no such protocol.
        """
        shown = _USER.sub("://", url).rstrip("/")
        try:
            fs, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise MissingTool(
                "The package for this kind of target is not installed.",
                where=shown,
                found=error,
                next_step="Install it beside this project (`pip install s3fs` for s3://).",
            ) from error
        except ValueError as error:
            raise UsageError(
                "There is no such kind of target.",
                where="publish.target",
                expected="a directory, or a URL that fsspec knows such as s3://bucket/folder",
                found=shown,
                next_step="Correct `publish.target`.",
            ) from error
        fs.invalidate_cache()
        return cls(shown, fs, root.rstrip("/"))

    def exists(self, path: str) -> bool:
        """Return whether there is something at path."""
        with self._explained():
            return bool(self._fs.exists(self._at(path)))

    def read(self, path: str) -> bytes:
        """Return the content of a small file."""
        with self._explained():
            return bytes(self._fs.cat_file(self._at(path)))

    def digest(self, path: str) -> FileDigest | None:
        """Return size and SHA-256 of what can be read at path now, None when there is nothing."""
        with self._explained():
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
        with self._explained():
            self._fs.invalidate_cache()
            found = self._fs.find(self._at(folder), detail=True)
        prefix = self._at(folder) + "/"
        return {name.removeprefix(prefix): int(info["size"]) for name, info in found.items()}

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders inside folder."""
        with self._explained():
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
        with self._explained():
            self._fs.makedirs(self._fs._parent(self._at(path)), exist_ok=True)
            if isinstance(source, bytes):
                self._fs.pipe_file(self._at(path), source)
            else:
                self._fs.put_file(str(source), self._at(path))

    def remove(self, path: str) -> None:
        """Delete one file."""
        with self._explained():
            self._fs.rm_file(self._at(path))

    def sync(self, folder: str) -> None:
        """Return when everything in folder is durable; an object store never answers earlier."""
        if isinstance(self._fs, LocalFileSystem):
            with self._explained():
                fsync_tree(Path(self._at(folder)))

    def replace(self, path: str, content: bytes) -> None:
        """Give path this content, all at once."""
        with self._explained():
            self._fs.makedirs(self._fs._parent(self._at(path)), exist_ok=True)
            if isinstance(self._fs, LocalFileSystem):
                write_atomically(Path(self._at(path)), content)
            else:
                self._fs.pipe_file(self._at(path), content)

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise UsageError(
                "The target may not be written to or read.",
                where=self.url,
                found=error,
                next_step="Give this account the right to it; keys for a bucket come from the "
                "environment.",
            ) from error
        except (NotADirectoryError, FileExistsError) as error:
            raise UsageError(
                "A file stands where a directory of the target should be.",
                where=self.url,
                found=error,
                next_step="Name another directory in `publish.target`, or move the file away.",
            ) from error
        except (ConnectionError, TimeoutError) as error:
            raise HubUnavailable(
                "The target cannot be reached.",
                where=self.url,
                found=error,
                next_step="Publish again later; what has arrived is not sent again.",
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DiskFull(
                "There is no room left at the target.",
                where=self.url,
                found=error,
                next_step="Remove old builds under builds/, or name another target.",
            ) from error
