"""What all commands that write a model directory share: their staging, their result."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.core.files.durable import FileDigest
from tasks.core.home import code_version
from tasks.core.weights.companions import file_names, left_behind


@dataclass(frozen=True)
class WrittenModel:
    """The files of a new directory, and those of an adapter in its inputs that were left behind."""

    files: Mapping[str, FileDigest]
    left_behind: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """The size of all files."""
        return sum(file.size_bytes for file in self.files.values())


def work_identity(command: str, *, inputs: object, settings: object = None) -> dict[str, object]:
    """Return what a command's result depends on; only the same work may resume its staging."""
    return {"command": command, "inputs": inputs, "settings": settings, "code": code_version()}


def adapter_files(*models: Path) -> tuple[str, ...]:
    """Return the files of an adapter that lies in the directory of a model and is no part of it."""
    return tuple(name for model in models for name in left_behind(file_names(model)))
