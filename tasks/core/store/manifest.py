"""The manifest: what an artifact consists of and where it comes from.

It is written last, so a directory that has one is complete. It never holds a secret, or a path of
the machine that made it.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from tasks.core.errors import CorruptArtifact
from tasks.core.files.digests import FileDigest
from tasks.core.files.durable import take_back, write_atomically
from tasks.core.files.foreign import leaves
from tasks.core.keys import StageKey, digest
from tasks.core.system.errors import may_pass

MANIFEST = "manifest.json"
FREED = ".freed"
KEPT_WHEN_FREED_BYTES = 1 << 17
"""The largest file of an artifact that stays when the others are freed."""


class Manifest(BaseModel):
    """The record of one artifact."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    stage: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    key: str = Field(pattern=r"^[0-9a-f]{64}$")
    created_at: AwareDatetime
    params: JsonValue
    inputs: dict[str, str]
    files: dict[str, FileDigest]
    facts: dict[str, JsonValue] = {}
    wall_s: float
    peak_memory_bytes: int
    private: bool = False
    """Whether it holds what people wrote (`privacy.py`)."""

    @property
    def stage_key(self) -> StageKey:
        """The key that the artifact was built under."""
        return StageKey(self.stage, self.key)

    @property
    def content_digest(self) -> str:
        """The digest of the content: equal for equal files, however they were made."""
        return content_digest(self.files)

    @property
    def size_bytes(self) -> int:
        """Bytes of all files, including those that hard links share with other artifacts."""
        return sum(file.size_bytes for file in self.files.values())


def content_digest(files: Mapping[str, FileDigest]) -> str:
    """Return one digest over names, sizes and SHA-256 of these files."""
    return digest({name: [file.size_bytes, file.sha256] for name, file in files.items()})


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write the manifest into directory, atomically."""
    # An earlier version refuses a field that it does not know.
    left_out = None if manifest.private else {"private"}
    content = manifest.model_dump_json(indent=1, exclude=left_out)
    write_atomically(directory / MANIFEST, content + "\n", mode=0o444)


def read_manifest(directory: Path) -> Manifest | None:
    """Return the manifest of directory, or None when there is none.

    Raises CorruptArtifact when it is damaged or names a file outside the directory.
    """
    path = directory / MANIFEST
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        if may_pass(error):
            raise
        raise _unreadable(path, error.strerror) from error
    return parse_manifest(content, where=path)


def manifest_of(model: Path) -> Manifest | None:
    """Return the manifest of a model directory that a user names, None where it is no artifact.

    Other programs write a manifest.json too, and so does publishing to a directory.
    """
    try:
        return read_manifest(model)
    except CorruptArtifact:
        return None


def parse_manifest(content: bytes, *, where: object) -> Manifest:
    """Parse a manifest. Raises CorruptArtifact as `read_manifest` does."""
    try:
        manifest = Manifest.model_validate_json(content)
    except (ValidationError, json.JSONDecodeError) as error:
        raise _unreadable(where, error) from error
    for name, file in manifest.files.items():
        # At a remote store files are named by their SHA-256.
        if leaves(name) or leaves(file.sha256) or name == MANIFEST:
            raise CorruptArtifact("A manifest names a file outside its artifact.", where=name)
    return manifest


def _unreadable(where: object, found: object) -> CorruptArtifact:
    return CorruptArtifact(
        "The manifest of an artifact cannot be read.",
        where=where,
        found=found,
        next_step="The next run that needs it sets it aside and rebuilds it; "
        "`kawan-usaha store verify` checks the others.",
    )


def freed_place(directory: Path) -> Path:
    """Return where manifest and small files of an artifact are kept after it was freed."""
    return directory.parent / FREED / directory.name


def remove_note(directory: Path) -> None:
    """Remove what is kept of a freed artifact, its manifest first, without which nothing counts."""
    place = freed_place(directory)
    if place.exists():
        take_back(place / MANIFEST)
        shutil.rmtree(place, ignore_errors=True)


def kept_file(directory: Path, name: str) -> Path | None:
    """Return a small file of an artifact, even one that was freed; None if there is none."""
    places = (directory, freed_place(directory))
    return next((place / name for place in places if (place / name).is_file()), None)


def require_manifest(directory: Path) -> Manifest:
    """Return the manifest of an artifact, even a freed one. Raises CorruptArtifact without one."""
    manifest = read_manifest(directory) or read_manifest(freed_place(directory))
    if manifest is None:
        raise CorruptArtifact(
            "This directory is no artifact of the store: it has no manifest.", where=directory
        )
    return manifest
