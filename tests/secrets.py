"""Secrets in the environment of the tests, and a look at what child processes get to know of it."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

SESAME = "sesame"
"""Stands in every secret, and nowhere else."""

SECRETS = {
    "HF_TOKEN": "hf_sesameAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "HUGGING_FACE_HUB_TOKEN": "hf_sesameBBBBBBBBBBBBBBBBBBBBBBBBBBBB",
    "AWS_SECRET_ACCESS_KEY": "sesame/aws",
    "AWS_SESSION_TOKEN": "sesame/aws/session",
    "OPENAI_API_KEY": "sk-sesame",
    "PREFECT_API_KEY": "pnu_sesame",
    "WANDB_API_KEY": "sesame-wandb",
    "DATABASE_URL": "postgres://warung:sesame@db/warung",
    "HTTPS_PROXY": "http://warung:sesame@proxy:3128",
    "DS_API_KEY": "sesame of a service whose name begins like DeepSpeed's variables",
    "WARUNG": "sesame under a name that tells nothing",
}

_NOTE_THE_ENVIRONMENT = """
import os
import sys

with open(os.path.join({directory!r}, str(os.getpid())), "wb") as note:
    note.write(" ".join(sys.orig_argv).encode() + b"\\0")
    with open("/proc/self/environ", "rb") as environment:
        note.write(environment.read())
"""


@dataclass(frozen=True)
class Spy:
    """Sees the environment of every Python process that is started from here on."""

    directory: Path

    def processes(self) -> list[str]:
        """Return command and environment of each process, as one text."""
        return [path.read_bytes().decode() for path in sorted(self.directory.iterdir())]

    def of(self, word: str) -> list[str]:
        """Return the processes whose command has a word."""
        return [text for text in self.processes() if word in text.partition("\0")[0]]


def spy_on_children(directory: Path, patch: pytest.MonkeyPatch) -> Spy:
    """Put the secrets into the environment, and a note-taker into each Python process."""
    site, notes = directory / "site", directory / "notes"
    site.mkdir(parents=True)
    notes.mkdir()
    (site / "sitecustomize.py").write_text(_NOTE_THE_ENVIRONMENT.format(directory=str(notes)))
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    patch.setenv("PYTHONPATH", os.pathsep.join(paths))
    for name, value in SECRETS.items():
        patch.setenv(name, value)
    return Spy(notes)


def files_that_tell(directory: Path) -> list[Path]:
    """Return the files below directory that hold a part of a secret."""
    files = (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if SESAME.encode() in path.read_bytes()]
