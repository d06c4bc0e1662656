"""One file from the Hub to the disk: continued where it stopped, checked against the Hub's word.

`huggingface_hub` throws away what a killed download has written (its temporary name is random), so
the bytes are streamed here, through its HTTP client, into `<name>.part`. A part is continued with a
Range request and becomes the file only when the SHA-256 (LFS) or the git blob id (small files) of
all its bytes is the one in the Hub's metadata; each byte is hashed once, on its way to the disk.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import BinaryIO, Protocol

import httpx2
from huggingface_hub import get_session, hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError

from tasks.core.errors import DownloadCorrupt
from tasks.core.files.copies import CHUNK_BYTES
from tasks.core.files.digests import FileDigest
from tasks.core.hub.client import TIMEOUT_S, waiting_time_s
from tasks.core.system.errors import names_path

logger = logging.getLogger(__name__)

_TRANSIENT_STATUS = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class RemoteFile:
    """A file as the Hub's metadata has it. sha256 is None for small files outside LFS."""

    path: str
    size_bytes: int
    sha256: str | None
    blob_id: str


@dataclass(frozen=True)
class Patience:
    """How a broken transfer is taken up again.

    attempts counts the failures in a row without a single new byte. A Hub that asks for a longer
    wait than longest_wait_s is left to the next run.
    """

    attempts: int = 5
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0

    def wait_s(self, failures: int, asked_s: float | None) -> float | None:
        """Return the pause after this many failures, None when it is time to give up."""
        pause = self.first_wait_s * 2 ** (failures - 1) if asked_s is None else asked_s
        return pause if failures < self.attempts and pause <= self.longest_wait_s else None


class Stopped(Exception):
    """Another file of the same download failed; this one stops where it is."""


class Listener(Protocol):
    """Is told, by the threads that fetch, what there is of each file by its name.

    What `grown` has told of lies in the file or its part, from the first byte on, and is known to
    be right once the file is `whole`. After `lost` it begins anew, in another part.
    """

    def grown(self, name: str, size_bytes: int) -> None:
        """So many bytes are there."""

    def lost(self, name: str) -> None:
        """What was there was worthless, and is gone."""

    def whole(self, name: str, content: FileDigest) -> None:
        """All of it is there, and is what the Hub announced."""


class Nobody:
    """Listens to nothing."""

    def grown(self, name: str, size_bytes: int) -> None:
        """Do nothing."""

    def lost(self, name: str) -> None:
        """Do nothing."""

    def whole(self, name: str, content: FileDigest) -> None:
        """Do nothing."""


NOBODY: Listener = Nobody()


class _Content:
    """Hashes the bytes of one file as they pass, and knows if they are the announced ones."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._git = hashlib.sha1(b"blob %d\0" % file.size_bytes, usedforsecurity=False)
        self.size_bytes = 0

    def update(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._sha256.update(chunk)
        if self._file.sha256 is None:
            self._git.update(chunk)
        self.size_bytes += len(chunk)

    def digest(self) -> FileDigest | None:
        """Return the digest of all bytes, None when they are not what the Hub announced."""
        if self.size_bytes != self._file.size_bytes:
            return None
        sha256 = self._sha256.hexdigest()
        if self._file.sha256 is None:
            right = self._git.hexdigest() == self._file.blob_id
        else:
            right = sha256 == self._file.sha256
        return FileDigest(self.size_bytes, sha256) if right else None


@dataclass(frozen=True)
class Fetch:
    """The transfer of one file into a directory.

    progress gets bytes as they arrive, and a negative number when bytes turn out to be worthless.
    """

    file: RemoteFile
    url: str
    headers: Mapping[str, str]
    out: Path
    progress: Callable[[int], None]
    stop: Event
    patience: Patience = Patience()
    listener: Listener = NOBODY

    def run(self) -> FileDigest:
        """Return the digest of the file once it stands in out, whole and verified.

        Raises DownloadCorrupt when it comes wrong twice, Stopped, and huggingface_hub's errors.
        """
        target = self.out / self.file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            digest = self._verify(target)
            if digest is not None:
                return self._told(digest)
            target.unlink()
            self.listener.lost(self.file.path)
        part = part_of(target)
        for _ in range(2):
            digest = self._receive(part)
            if digest is not None:
                part.rename(target)
                return self._told(digest)
            logger.warning("%s came wrong; asking for it again", self.file.path)
            part.unlink()
            self.listener.lost(self.file.path)
        raise DownloadCorrupt(
            "A file is not the one that the Hub announced.",
            where=self.url,
            expected=f"{self.file.size_bytes} bytes, "
            f"{'SHA-256 ' + self.file.sha256 if self.file.sha256 else 'git ' + self.file.blob_id}",
            next_step="Run again. If it stays wrong, a proxy changes it or the repository is "
            "damaged.",
        )

    def _told(self, digest: FileDigest) -> FileDigest:
        self.listener.whole(self.file.path, digest)
        return digest

    def _verify(self, target: Path) -> FileDigest | None:
        content = _Content(self.file)
        with names_path(target), target.open("rb") as file:
            self._take_over(file, content)
        return self._judge(content)

    def _receive(self, part: Path) -> FileDigest | None:
        content = _Content(self.file)
        with names_path(part), part.open("ab+") as file:
            file.seek(0)
            self._take_over(file, content)
            failures = 0
            while content.size_bytes < self.file.size_bytes:
                before = content.size_bytes
                try:
                    self._stream(file, content)
                    if content.size_bytes == before:
                        raise httpx2.RemoteProtocolError("the answer held no bytes")
                except (httpx2.TransportError, HfHubHTTPError) as error:
                    failures = 1 if content.size_bytes > before else failures + 1
                    self._wait(error, failures)
        return self._judge(content)

    def _take_over(self, file: BinaryIO, content: _Content) -> None:
        while chunk := file.read(CHUNK_BYTES):
            self._count(chunk, content)

    def _stream(self, file: BinaryIO, content: _Content) -> None:
        headers = {**self.headers, "Accept-Encoding": "identity"}
        if content.size_bytes:
            headers["Range"] = f"bytes={content.size_bytes}-"
        with get_session().stream("GET", self.url, headers=headers, timeout=TIMEOUT_S) as response:
            hf_raise_for_status(response)
            skip = content.size_bytes if response.status_code == httpx2.codes.OK else 0
            for chunk in response.iter_bytes():
                fresh = chunk[skip:]  # a server that ignores Range begins at the beginning
                skip -= len(chunk) - len(fresh)
                file.write(fresh)
                file.flush()  # for whoever listens
                self._count(fresh, content)

    def _count(self, chunk: bytes, content: _Content) -> None:
        if self.stop.is_set():
            raise Stopped
        content.update(chunk)
        self.progress(len(chunk))
        self.listener.grown(self.file.path, content.size_bytes)

    def _judge(self, content: _Content) -> FileDigest | None:
        digest = content.digest()
        if digest is None:
            self.progress(-content.size_bytes)
        return digest

    def _wait(self, error: httpx2.TransportError | HfHubHTTPError, failures: int) -> None:
        asked_s = None
        if isinstance(error, HfHubHTTPError):
            if error.response.status_code not in _TRANSIENT_STATUS:
                raise error
            asked_s = waiting_time_s(error.response)
        pause_s = self.patience.wait_s(failures, asked_s)
        if pause_s is None:
            raise error
        logger.warning("%s: %s; going on in %.0f s", self.file.path, error, pause_s)
        if self.stop.wait(pause_s):
            raise Stopped


def part_of(target: Path) -> Path:
    """Return where a file lies while it is not whole."""
    return target.with_name(target.name + ".part")
