"""An earlier revision of this project, to be measured beside the present one in the same run."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
BEFORE = "bd49c02"
"""The last revision in which one process read the data, and tokenized every record twice."""


@contextmanager
def checked_out(revision: str, work: Path) -> Iterator[Path]:
    """Yield a directory with the files of a revision, which is gone after the block."""
    path = work / f"revision-{revision}"
    _git("worktree", "add", "--force", "--detach", str(path), revision)
    try:
        yield path
    finally:
        _git("worktree", "remove", "--force", str(path))


def _git(*words: str) -> None:
    subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True)
