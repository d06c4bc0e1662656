"""Arguments and output of the commands from one model directory into another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from flows.command_line.output import NEW_DIRECTORY, show
from tasks.core.files.digests import FileDigest

Out = Annotated[Path, NEW_DIRECTORY]


@dataclass(frozen=True)
class WrittenModel:
    """The files of a new directory, and those of an adapter in its inputs that were left behind."""

    files: Mapping[str, FileDigest]
    left_behind: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """The size of all files."""
        return sum(file.size_bytes for file in self.files.values())


def show_written(out: Path, written: WrittenModel, *, as_json: bool) -> None:
    """Print the files of the new directory."""
    files = {
        name: {"size_bytes": file.size_bytes, "sha256": file.sha256}
        for name, file in written.files.items()
    }
    size = f"{out}: {len(files)} files, {written.size_bytes / 1e9:.3f} GB"
    result = {"out": out, "files": files, "left_behind": written.left_behind}
    show(result, as_json=as_json, text=size + left_behind_note(written.left_behind))


def left_behind_note(left_behind: Sequence[str]) -> str:
    """Return the line about the files of an adapter that were left behind, if there are any."""
    if not left_behind:
        return ""
    return (
        f"\nleft behind: {', '.join(left_behind)}: an adapter in the directory of the model. "
        "`kawan-usaha fuse MODEL ADAPTER OUT` adds it to the model."
    )
