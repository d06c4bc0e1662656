"""What must be true at any moment: what can be seen is whole, and what was whole is not made again.

Looked at after every kill by its bytes, and all the time by its names.
"""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tasks.core.files.digests import digest_of
from tasks.core.hub.publish.to_filesystem import POINTER
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.files import read_record, read_routes, slot_of
from tasks.core.store import Store
from tasks.core.store.manifest import MANIFEST

_EVERY_S = 0.1
Made = tuple[int, int]
"""A thing that was made once stays the same inode with the same time of its last change."""


@dataclass
class Watched:
    """What one build has shown so far, under a home and where it publishes to."""

    home: Path
    published: Path
    state: StateDirectory
    _seen: dict[str, Made] = field(default_factory=dict)
    _half: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look_on, name="look-on", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def require_whole(self) -> None:
        """Read every byte that is shown. Raises AssertionError for a half thing, or a new one."""
        wrong = {name: found for name, found in Store(self.home).verify().items() if found}
        assert not wrong, f"shown, and not whole: {wrong}"
        assert not self._half, f"shown, and not whole: {self._half}"
        aside = list((self.home / "store").glob(".corrupt/*"))
        assert not aside, f"set aside as damaged: {aside}"
        self._require_published_whole()
        self._require_route_proven()
        for name, made in self._made():
            before = self._seen.setdefault(name, made)
            assert made == before, f"{name} was whole, and was made again"

    def _made(self) -> Iterator[tuple[str, Made]]:
        for place, kind in ((self.home / "store", "[a-z]*-*"), (self.published, "builds/*")):
            for manifest in place.glob(f"{kind}/{MANIFEST}"):
                for file in (manifest, *_listed(manifest)):
                    stat = file.stat()
                    yield str(file), (stat.st_ino, stat.st_mtime_ns)

    def _look_on(self) -> None:
        while not self._stop.wait(_EVERY_S):
            for directory in (self.home / "store").glob("[a-z]*-*"):
                if not (directory / MANIFEST).exists() and directory.exists():
                    self._half.append(f"{directory} has no manifest")

    def _require_published_whole(self) -> None:
        for manifest in self.published.glob(f"builds/*/{MANIFEST}"):
            for name, file in json.loads(manifest.read_bytes())["files"].items():
                found = digest_of(manifest.parent / name)
                assert (found.size_bytes, found.sha256) == (file["size_bytes"], file["sha256"]), (
                    f"published, and not whole: {manifest.parent / name}"
                )
        pointer = self.published / POINTER
        if pointer.exists():
            build = self.published / json.loads(pointer.read_bytes())["path"]
            assert (build / MANIFEST).exists(), f"{pointer} leads to half a build"

    def _require_route_proven(self) -> None:
        routes = read_routes(self.state)
        if routes is not None and routes.route is not None:
            record = read_record(self.state, slot_of(routes.route))
            assert record is not None, f"{self.state.routes} leads to nothing that was proven"
            assert record.model.is_dir(), f"what is routed to has no model: {record.model}"


def _listed(manifest: Path) -> Iterator[Path]:
    for name in json.loads(manifest.read_bytes())["files"]:
        yield manifest.parent / name
