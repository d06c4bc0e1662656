"""One directory or bucket, through fsspec, for publishing and for sharing among machines.

Paths are relative to the place and use `/`. Invariants: `replace`, `create` and `send` give a name
its content atomically, as an object store does by itself and a local file by a rename. No bucket is
ever created, and no credential is ever read from a URL or shown.
"""

import errno
import hashlib
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.callbacks import Callback
from fsspec.implementations.local import LocalFileSystem

from tasks.core.errors import BucketMissing, StorageRefused, UploadCorrupt
from tasks.core.files.digests import FileDigest
from tasks.core.files.durable import fsync_directory, fsync_tree, make_directory, write_atomically
from tasks.core.storage.errors import came_changed, storage_error
from tasks.core.storage.local import copy, link_new
from tasks.core.storage.urls import open_storage, shown, storage_failures

_PROBE = ".kawan-usaha-probe"
_PART_BYTES = 32 << 20  # per request; several files are transferred at once
ANSWERS_WITHIN_S = 120.0
_SLOWEST_BYTES_A_S = 100_000
_S3_OPTIONS = {"max_concurrency": 2}
"""s3fs holds this many parts of 50 MiB in memory per file being sent; its default is 10."""


@dataclass(frozen=True)
class StorageDirectory:
    """An fsspec filesystem and the folder in it that is used.

    url is for people, without the user and password that it may have been opened with.
    """

    url: str
    setting: str
    _fs: Any
    _root: str

    @classmethod
    def open(cls, url: str, setting: str = "publish.target") -> "StorageDirectory":
        """Return the place at a path or URL, the value of `setting`. Nothing is asked there yet.

        Raises as `open_storage`.
        """
        options = _S3_OPTIONS if url.startswith(("s3://", "s3a://")) else {}
        filesystem, root = open_storage(url, setting, use_listings_cache=False, **options)
        return cls(shown(url), setting, filesystem, root)

    def require_root(self) -> None:
        """Raise BucketMissing for a directory that does not exist: a share may not be mounted."""
        if isinstance(self._fs, LocalFileSystem) and not Path(self._root).is_dir():
            raise BucketMissing(
                "The directory does not exist.",
                where=self.url,
                next_step=f"Create it, mount it, or correct {self.setting}.",
            )

    def probe(self) -> None:
        """Return once a small file was written here and read back; it is removed again.

        A missing directory of this machine is not created. Raises as all methods do.
        """
        if isinstance(self._fs, LocalFileSystem):
            with storage_failures(self.url):
                existing = Path(self._root or "/")
                while not existing.exists():
                    existing = existing.parent
                with tempfile.TemporaryFile(dir=existing):
                    return
        name, content = f"{_PROBE}-{secrets.token_hex(8)}", secrets.token_bytes(16)
        self.replace(name, content)
        if self.read(name) != content:
            raise UploadCorrupt(
                "The bytes that arrived differ from those that were sent.",
                where=self.url,
                next_step="Find out what changes files on the way there, for example a proxy.",
            )
        with suppress(StorageRefused):  # publishing does not need the right to delete
            self.remove(name)

    def require_create(self) -> None:
        """Return once `create` has worked here, which needs more than `replace`.

        The file system of a directory must have hard links, a bucket conditional writes.
        """
        name = f"{_PROBE}-{secrets.token_hex(8)}"
        self.create(name, b"")
        with suppress(StorageRefused):
            self.remove(name)

    def exists(self, path: str) -> bool:
        """Return whether path exists."""
        with storage_failures(self.url):
            return bool(self._fs.exists(self._at(path)))

    def read(self, path: str) -> bytes:
        """Return the content of a small file."""
        with storage_failures(self.url):
            return bytes(self._fs.cat_file(self._at(path)))

    def find(self, path: str) -> bytes | None:
        """Return the content of a small file, None when there is no such file."""
        with storage_failures(self.url):
            try:
                return bytes(self._fs.cat_file(self._at(path)))
            except FileNotFoundError:
                return None

    def size_bytes(self, path: str) -> int | None:
        """Return the size of a file, None when there is no such file."""
        with storage_failures(self.url):
            try:
                found = self._fs.info(self._at(path))
            except FileNotFoundError:
                return None
        return int(found["size"]) if found["type"] == "file" else None

    def parts(self, path: str, size_bytes: int, start: int = 0) -> Iterator[bytes]:
        """Yield the bytes of a file from start on, in parts; fewer if it is shorter than expected.

        Also fewer if a part arrives with another checksum than the storage has for it.
        """
        while start < size_bytes:
            end = min(start + _PART_BYTES, size_bytes)
            with storage_failures(self.url):
                try:
                    part = bytes(self._fs.cat_file(self._at(path), start=start, end=end))
                except FileNotFoundError:
                    return
                except Exception as error:
                    if came_changed(error):  # the caller's own checksum will reveal it
                        return
                    if isinstance(error, OSError) and error.errno == errno.EINVAL:
                        return  # s3fs: a range beyond the end
                    raise
            yield part
            start += len(part)
            if start < end:
                return

    def digest(self, path: str) -> FileDigest | None:
        """Read the file at path; return size and SHA-256, None when there is no file."""
        size = self.size_bytes(path)
        if size is None:
            return None
        sha256, read = hashlib.sha256(), 0
        for part in self.parts(path, size):
            sha256.update(part)
            read += len(part)
        return FileDigest(read, sha256.hexdigest())

    def files(self, folder: str) -> dict[str, int]:
        """Return the size of every file under folder, by its path there."""
        with storage_failures(self.url):
            self._fs.invalidate_cache()
            found = self._fs.find(self._at(folder), detail=True)
        prefix = self._at(folder) + "/"
        return {name.removeprefix(prefix): int(info["size"]) for name, info in found.items()}

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders inside folder ("": of the place itself)."""
        with storage_failures(self.url):
            try:
                entries = self._fs.ls(self._at(folder), detail=True)
            except FileNotFoundError:
                return []
        return sorted(
            str(entry["name"]).rstrip("/").rsplit("/", 1)[-1]
            for entry in entries
            if entry["type"] == "directory"
        )

    def send(
        self, source: Path | bytes, path: str, sent: Callable[[int], None] | None = None
    ) -> None:
        """Copy a local file or bytes to path; sent is called with byte counts, and may raise."""
        with storage_failures(self.url):
            self._into_folder(path, lambda: self._send(source, path, sent))

    def remove(self, path: str) -> None:
        """Delete one file."""
        with storage_failures(self.url):
            self._fs.rm_file(self._at(path))

    def sync(self, folder: str) -> None:
        """Return once everything in folder is durable; an object store guarantees it by itself."""
        if isinstance(self._fs, LocalFileSystem):
            with storage_failures(self.url):
                fsync_tree(Path(self._at(folder)))
            self.sync_names(folder)

    def sync_names(self, folder: str) -> None:
        """Return once the names in folder, and of the folders above it, are durable.

        A killed writer may have left a name that was never synced.
        """
        if isinstance(self._fs, LocalFileSystem):
            with storage_failures(self.url):
                at, root = Path(self._at(folder)), Path(self._root)
                for each in (at, *at.parents):
                    if each.is_relative_to(root) and each.is_dir():
                        fsync_directory(each)

    def replace(self, path: str, content: bytes) -> None:
        """Replace the content of path, atomically."""
        with storage_failures(self.url):
            self._into_folder(path, lambda: self._put(path, content))

    def create(self, path: str, content: bytes) -> bool:
        """Create path with this content, atomically; return False if it exists already.

        Of several concurrent writers one succeeds. Amazon S3, MinIO, Ceph and R2 guarantee it with
        `If-None-Match: *`, Google's and Azure's storage in their own ways.
        """
        with storage_failures(self.url):
            try:
                self._into_folder(path, lambda: self._put_new(path, content))
            except FileExistsError:
                return False
            except OSError as error:
                # s3fs recognizes the refusal by a field that not every server fills in.
                if error.errno == errno.EINVAL and _is_precondition(error):
                    return False
                raise
            return True

    def _send(self, source: Path | bytes, path: str, sent: Callable[[int], None] | None) -> None:
        if isinstance(source, bytes):
            self._put(path, source)
        elif isinstance(self._fs, LocalFileSystem):
            copy(source, Path(self._at(path)), sent)
        else:
            within = self._within(source.stat().st_size)
            self._fs.put_file(str(source), self._at(path), callback=_Callback(sent), **within)

    def _put(self, path: str, content: bytes) -> None:
        if isinstance(self._fs, LocalFileSystem):
            write_atomically(Path(self._at(path)), content)
        else:
            self._fs.pipe_file(self._at(path), content, **self._within(len(content)))

    def _put_new(self, path: str, content: bytes) -> None:
        if isinstance(self._fs, LocalFileSystem):
            link_new(content, Path(self._at(path)))
        else:
            within = self._within(len(content))
            self._fs.pipe_file(self._at(path), content, mode="create", **within)

    def _within(self, size_bytes: int) -> dict[str, float]:
        """Return the timeout of a write, for the libraries that accept one.

        aiohttp's own starts only once the body is sent; it would wait for ever for a server that
        never answers `Expect: 100-continue`.
        """
        if not getattr(self._fs, "async_impl", False):
            return {}
        return {"timeout": ANSWERS_WITHIN_S + size_bytes / _SLOWEST_BYTES_A_S}

    def _into_folder(self, path: str, write: Callable[[], object]) -> None:
        """Write, and create the folder only if that fails without it.

        An object store has no folders: makedirs would create a bucket there, from a mistyped name.
        """
        try:
            write()
        except FileNotFoundError as error:
            if isinstance(storage_error(error), BucketMissing):
                raise
            folder = self._fs._parent(self._at(path))
            if isinstance(self._fs, LocalFileSystem):
                make_directory(Path(folder))
            else:
                self._fs.makedirs(folder, exist_ok=True)
            write()

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root


class _Callback(Callback):  # type: ignore[misc]
    """Reports each part that was sent."""

    def __init__(self, sent: Callable[[int], None] | None) -> None:
        super().__init__()
        self._sent = sent

    def relative_update(self, inc: int = 1) -> None:
        if self._sent is not None:
            self._sent(inc)


def _is_precondition(error: OSError) -> bool:
    """Return whether a server refused because the name exists (`If-None-Match: *`)."""
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code") in ("PreconditionFailed", "412")
