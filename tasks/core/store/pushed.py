"""Notes of what a remote store has, so that a run with nothing new asks nobody.

<home>/store/.pushed/<stage>-<key>   what the remote store at a URL has under this name
"""

from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.files.durable import write_atomically

PUSHED = ".pushed"


class PushedNote(BaseModel):
    """What is known to be at a remote store under the name of an artifact.

    ours and theirs are digests of the content here and there, which differ if another machine was
    first; fetched says that another machine has made ours.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    ours: str
    theirs: str
    fetched: bool = False


def read_note(root: Path, name: str) -> PushedNote | None:
    """Return the note on an artifact of the store at root, None without a readable one."""
    with suppress(FileNotFoundError, ValidationError):
        return PushedNote.model_validate_json((root / PUSHED / name).read_bytes())
    return None


def write_note(root: Path, name: str, note: PushedNote) -> None:
    """Replace the note on an artifact."""
    place = root / PUSHED / name
    place.parent.mkdir(exist_ok=True)
    write_atomically(place, note.model_dump_json())


def forget_note(root: Path, name: str) -> None:
    """Remove the note on an artifact, which no longer holds."""
    (root / PUSHED / name).unlink(missing_ok=True)


def was_fetched(root: Path, name: str) -> bool:
    """Return whether this artifact is noted to come from another machine."""
    note = read_note(root, name)
    return note is not None and note.fetched
