"""Reading a store: what is complete, damaged, freed or left over. Changes nothing."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.core.errors import CorruptArtifact
from tasks.core.keys import StageKey
from tasks.core.store.checks import wrong_content, wrong_sizes
from tasks.core.store.manifest import FREED, Manifest, freed_place, read_manifest

logger = logging.getLogger(__name__)

EntryKind = Literal["artifact", "staging", "corrupt", "freed", "trash"]
_FOLDERS: dict[EntryKind, str] = {
    "staging": ".staging",
    "corrupt": ".corrupt",
    "freed": FREED,
    "trash": ".trash",
}


@dataclass(frozen=True)
class Artifact:
    """An artifact of the store: complete, or `freed`, with only manifest and small files left."""

    path: Path
    manifest: Manifest
    freed: bool = False

    @property
    def key(self) -> StageKey:
        """The key that it was built under."""
        return self.manifest.stage_key

    @property
    def digest(self) -> str:
        """The digest of its content, which is what later stages depend on."""
        return self.manifest.content_digest


class Shelf:
    """The artifacts under one home directory, read only."""

    def __init__(self, home: Path) -> None:
        self.root = home / "store"

    def path_of(self, key: StageKey) -> Path:
        """Return where the artifact of this key is once it is built."""
        return self.root / str(key)

    def find(self, key: StageKey) -> Artifact | None:
        """Return the artifact, None without one; only the sizes of its files are checked.

        Raises CorruptArtifact when it differs from its manifest.
        """
        directory = self.path_of(key)
        manifest = read_manifest(directory)
        if manifest is None:
            return None
        if manifest.key != key.digest:
            raise CorruptArtifact("The manifest belongs to another key.", where=directory)
        problems = list(wrong_sizes(directory, manifest))
        if problems:
            raise CorruptArtifact(
                "An artifact is damaged.",
                where=directory,
                found="; ".join(problems),
                next_step="`kawan-usaha store verify` shows all faults; the next run rebuilds it.",
            )
        return Artifact(directory, manifest)

    def freed(self, name: str) -> Artifact | None:
        """Return what is known of a freed artifact, None for any other."""
        directory = self.root / name
        artifact = _open(freed_place(directory))
        return None if artifact is None else Artifact(directory, artifact.manifest, freed=True)

    def artifacts(self) -> Iterator[Artifact]:
        """Yield every artifact with a readable manifest, oldest first."""
        found = [artifact for directory in self._directories() if (artifact := _open(directory))]
        yield from sorted(found, key=lambda artifact: artifact.manifest.created_at)

    def freed_artifacts(self) -> Iterator[Artifact]:
        """Yield what is known of every artifact that was freed and not restored."""
        for directory in self._children(FREED):
            artifact = self.freed(directory.name)
            if artifact is not None and not artifact.path.exists():
                yield artifact

    def verify(self) -> dict[str, list[str]]:
        """Read every file of every artifact; return the faults of each, by artifact name.

        An intact artifact has an empty list.
        """
        return {directory.name: list(wrong_content(directory)) for directory in self._directories()}

    def contents(self) -> dict[EntryKind, list[Path]]:
        """Return every directory in the store by its kind."""
        places: dict[EntryKind, list[Path]] = {"artifact": self._directories()}
        for place, name in _FOLDERS.items():
            places[place] = self._children(name)
        return places

    def _directories(self) -> list[Path]:
        return [d for d in self._children(".") if not d.name.startswith(".")]

    def _children(self, name: str) -> list[Path]:
        parent = self.root / name
        return sorted(d for d in parent.iterdir() if d.is_dir()) if parent.is_dir() else []


def _open(directory: Path) -> Artifact | None:
    try:
        manifest = read_manifest(directory)
    except CorruptArtifact as error:
        logger.warning("%s", error)
        return None
    return None if manifest is None else Artifact(directory, manifest)
