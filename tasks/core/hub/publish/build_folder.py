"""The folder of one build in a directory or bucket: `builds/<build>/`.

Its `manifest.json` lists the files and is written last: a folder without one is not a build.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import compress
from pathlib import PurePosixPath

from tasks.core.errors import HubError, UploadCorrupt
from tasks.core.files.temporary import TEMPORARY
from tasks.core.hub.publish.allow_list import require_harmless
from tasks.core.hub.publish.files import Wanted
from tasks.core.hub.publish.to_hub.upload import FILES_AT_ONCE
from tasks.core.progress import OnProgress, Tally
from tasks.core.storage.directory import StorageDirectory
from tasks.core.system.threads import run_all

BUILDS = "builds"
FILE_LIST = "manifest.json"


@dataclass(frozen=True)
class BuildFolder:
    """The folder of a build at a place."""

    place: StorageDirectory
    build: str

    @property
    def path(self) -> str:
        """The folder's path below the place."""
        return f"{BUILDS}/{self.build}"

    @property
    def url(self) -> str:
        """The folder's address."""
        return f"{self.place.url}/{self.path}"

    @property
    def is_complete(self) -> bool:
        """Whether every file of the build has arrived."""
        return self.place.exists(self.at(FILE_LIST))

    def at(self, name: str) -> str:
        """Return the path of one file below the place."""
        return f"{self.path}/{name}"

    def file_list(self) -> bytes:
        """Return the content of the build's file list."""
        return self.place.read(self.at(FILE_LIST))

    def bring(
        self, wanted: Mapping[str, Wanted], file_list: bytes, on_progress: OnProgress
    ) -> tuple[str, ...]:
        """Send the files that are missing, verify all, then write the list; return those sent."""
        tally = Tally(sum(file.digest.size_bytes for file in wanted.values()), on_progress)
        were_sent = run_all(
            [partial(self._send, name, file, tally) for name, file in wanted.items()],
            threads=FILES_AT_ONCE,
            name="publish",
            stop=lambda: None,  # no further file begins; those being sent arrive
        )
        self.place.sync(self.path)
        self.place.replace(self.at(FILE_LIST), file_list)
        return tuple(compress(wanted, were_sent))

    def _send(self, name: str, file: Wanted, tally: Tally) -> bool:
        """Bring one file there, and return whether it had to be sent."""
        path = self.at(name)
        is_missing = self.place.digest(path) != file.digest
        if is_missing:
            file.require_unchanged()
            self.place.send(file.source, path)
            self._require_arrived(path, file)
        tally.add(file.digest.size_bytes)
        return is_missing

    def _require_arrived(self, path: str, file: Wanted) -> None:
        found = self.place.digest(path)
        if found == file.digest:
            return
        file.require_unchanged()
        raise UploadCorrupt(
            "The bytes that arrived differ from those that were sent.",
            where=f"{self.place.url}/{path}",
            expected=file.digest,
            found=found,
            next_step="Publish again: only the files that differ are sent. current.json was not "
            "touched.",
        )

    def others(self, published: Collection[str]) -> tuple[str, ...]:
        """Return the files of other people in the folder.

        Raises HubError when a loader would read one of them with the build. What a killed writer
        has left of a file is removed.
        """
        kept = []
        for name in sorted(self.place.files(self.path).keys() - {*published, FILE_LIST}):
            if PurePosixPath(name).name.startswith(TEMPORARY):
                self.place.remove(self.at(name))
            else:
                kept.append(name)
        require_harmless(kept, published, where=self.url, remedy="they are not the build's")
        return tuple(kept)

    def require_same_build(self, file_list: bytes, wanted: Mapping[str, Wanted]) -> None:
        """Raise unless the complete build in the folder is this one, by its list and all sizes."""
        if self.file_list() != file_list:
            raise HubError(
                "Another build was published under this name.",
                where=self.url,
                next_step="Give this build a name of its own; a published build never changes.",
            )
        sizes = {name: file.digest.size_bytes for name, file in wanted.items()}
        present = self.place.files(self.path)
        found = {name: size for name, size in present.items() if name in sizes}
        if sizes != found:
            raise UploadCorrupt(
                "A published build was changed in place.",
                where=self.url,
                expected=sizes,
                found=found,
                next_step=f"Remove {self.at(FILE_LIST)} there and publish again: only the files "
                "that differ are sent.",
            )


def file_list_of(build: str, wanted: Mapping[str, Wanted]) -> bytes:
    """Return the content of `manifest.json` for a build of these files."""
    files = {
        name: {"size_bytes": file.digest.size_bytes, "sha256": file.digest.sha256}
        for name, file in sorted(wanted.items())
    }
    return (json.dumps({"build": build, "files": files}, indent=1) + "\n").encode()


def sizes_in(file_list: bytes) -> dict[str, int]:
    """Return the size in bytes of each file of a list."""
    return {name: file["size_bytes"] for name, file in json.loads(file_list)["files"].items()}


def sha256_of_list(file_list: bytes) -> str:
    """Return the digest that stands for the build of a list, as a commit does on a Hub."""
    return hashlib.sha256(file_list).hexdigest()
