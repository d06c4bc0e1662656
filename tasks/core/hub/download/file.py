"""One file from the Hub to the disk: resumed where it stopped, checked against the Hub's metadata.

`huggingface_hub` discards what a killed download has written (its temporary name is random), so the
bytes are streamed here, through its HTTP client, into `<name>.part`. A part is resumed with a Range
request and becomes the file only when all its bytes have the announced hash; each byte is hashed
once, on its way to the disk.
"""

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
from tasks.core.hub.client import TIMEOUT_S
from tasks.core.hub.download.announced import Content, HubFile
from tasks.core.hub.errors import waiting_time_s
from tasks.core.system.errors import names_path

logger = logging.getLogger(__name__)

_TRANSIENT_STATUS = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Patience:
    """How often, and after which waits, a broken transfer is resumed.

    attempts counts failures in a row without a single new byte; it is the reason why this loop is
    not a `core.retry`. A wait that the Hub asks for takes the place of ours. One that is longer
    than longest_wait_s is left to the next run.
    """

    attempts: int = 5
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0

    def wait_s(self, failures: int, asked_s: float | None) -> float | None:
        """Return the wait after this many failures, None when it is time to give up."""
        wait_s = self.first_wait_s * 2 ** (failures - 1) if asked_s is None else asked_s
        return wait_s if failures < self.attempts and wait_s <= self.longest_wait_s else None


class DownloadStopped(Exception):
    """Another file of the same download failed; this one stops where it is."""


class Listener(Protocol):
    """Hears, from the downloading threads, how much of each file has arrived.

    The bytes reported by `grown` lie in the file or its part, from the first byte on; they are
    known to be right once the file is `whole`. After `lost` the file starts anew in another part.
    """

    def grown(self, name: str, size_bytes: int) -> None:
        """Learn that the first size_bytes have arrived."""

    def lost(self, name: str) -> None:
        """Learn that what had arrived was wrong, and was removed."""

    def whole(self, name: str, content: FileDigest) -> None:
        """Learn that the file is complete, and is what the Hub announced."""


class Nobody:
    """A listener that ignores everything."""

    def grown(self, name: str, size_bytes: int) -> None:
        """Do nothing."""

    def lost(self, name: str) -> None:
        """Do nothing."""

    def whole(self, name: str, content: FileDigest) -> None:
        """Do nothing."""


NOBODY: Listener = Nobody()


@dataclass(frozen=True)
class DownloadSession:
    """What all files of one download have in common.

    progress gets bytes as they arrive, and a negative number when bytes turn out to be wrong.
    """

    out: Path
    headers: Mapping[str, str]
    progress: Callable[[int], None]
    stop: Event
    patience: Patience = Patience()
    listener: Listener = NOBODY


@dataclass(frozen=True)
class FileDownload:
    """The download of one file, as a part of a transfer."""

    file: HubFile
    url: str
    session: DownloadSession

    def run(self) -> FileDigest:
        """Return the digest of the file once it stands in the directory, complete and verified.

        Raises DownloadCorrupt when it arrives wrong twice, DownloadStopped, and huggingface_hub's
        errors.
        """
        target = self.session.out / self.file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = self._present(target) or self._downloaded(target)
        self.session.listener.whole(self.file.path, digest)
        return digest

    def _present(self, target: Path) -> FileDigest | None:
        """Return the digest of a file that an earlier attempt has left; remove a wrong one."""
        if not target.exists():
            return None
        content = Content(self.file)
        with names_path(target), target.open("rb") as file:
            self._hash(file, content)
        return self._checked(target, content)

    def _downloaded(self, target: Path) -> FileDigest:
        part = part_of(target)
        for _ in range(2):
            digest = self._received(part)
            if digest is not None:
                part.rename(target)
                return digest
            logger.warning("%s arrived wrong; downloading it again", self.file.path)
        raise DownloadCorrupt(
            "A downloaded file does not match what the Hub announced.",
            where=self.url,
            expected=self.file,
            next_step="Run again. If it stays wrong, a proxy changes it or the repository is "
            "damaged.",
        )

    def _received(self, part: Path) -> FileDigest | None:
        """Return the digest of a part once it is complete; remove a wrong one."""
        content = Content(self.file)
        with names_path(part), part.open("ab+") as file:
            file.seek(0)
            self._hash(file, content)
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
        return self._checked(part, content)

    def _hash(self, file: BinaryIO, content: Content) -> None:
        while chunk := file.read(CHUNK_BYTES):
            self._count(chunk, content)

    def _stream(self, file: BinaryIO, content: Content) -> None:
        headers = {**self.session.headers, "Accept-Encoding": "identity"}
        if content.size_bytes:
            headers["Range"] = f"bytes={content.size_bytes}-"
        with get_session().stream("GET", self.url, headers=headers, timeout=TIMEOUT_S) as response:
            hf_raise_for_status(response)
            skip = content.size_bytes if response.status_code == httpx2.codes.OK else 0
            for chunk in response.iter_bytes():
                fresh = chunk[skip:]  # a server that ignores Range begins at the beginning
                skip -= len(chunk) - len(fresh)
                file.write(fresh)
                file.flush()  # a listener may read it
                self._count(fresh, content)

    def _count(self, chunk: bytes, content: Content) -> None:
        if self.session.stop.is_set():
            raise DownloadStopped
        content.update(chunk)
        self.session.progress(len(chunk))
        self.session.listener.grown(self.file.path, content.size_bytes)

    def _checked(self, path: Path, content: Content) -> FileDigest | None:
        digest = content.digest()
        if digest is None:
            self.session.progress(-content.size_bytes)
            path.unlink()
            self.session.listener.lost(self.file.path)
        return digest

    def _wait(self, error: httpx2.TransportError | HfHubHTTPError, failures: int) -> None:
        asked_s = None
        if isinstance(error, HfHubHTTPError):
            if error.response.status_code not in _TRANSIENT_STATUS:
                raise error
            asked_s = waiting_time_s(error.response)
        wait_s = self.session.patience.wait_s(failures, asked_s)
        if wait_s is None:
            raise error
        logger.warning("%s: %s; resuming in %.0f s", self.file.path, error, wait_s)
        if self.session.stop.wait(wait_s):
            raise DownloadStopped


def part_of(target: Path) -> Path:
    """Return where a file lies while it is incomplete."""
    return target.with_name(target.name + ".part")
