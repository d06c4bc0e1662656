"""Secrets in the environment of the tests, and a look at what child processes get to know of it."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
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


_YOUNG_S = 10.0
"""A process that is younger may become another program still."""


@dataclass(frozen=True)
class Process:
    """A process as /proc shows it: its command, and its environment when it was first seen."""

    command: str
    environment: tuple[tuple[str, str], ...]

    def holding(self, secrets: Sequence[str]) -> set[str]:
        """Return the variables whose value has one of these in it."""
        return {n for n, value in self.environment if any(secret in value for secret in secrets)}


@dataclass(frozen=True)
class _Image:
    """Who started a process, its age, and where its memory holds command and environment.

    exec changes that place. It is nowhere for a zombie and for the kernel's own threads.
    """

    parent: int
    age_s: float
    place: tuple[str, ...]


def _image(pid: int) -> _Image:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    born_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - born_s
    return _Image(int(fields[1]), age_s, tuple(fields[45:49]))  # proc(5): arg_start to env_end


_NOWHERE = ("0", "0", "0", "0")


@dataclass
class Seen:
    """The processes that belong to a directory: by their environment, or by who started them.

    A process is known by its number as long as it is there at each look.
    """

    root: Path
    _found: set[Process] = field(default_factory=set)
    _own: set[int] = field(default_factory=set)
    _shown: dict[int, tuple[tuple[str, ...], Process]] = field(default_factory=dict)
    _settled: set[int] = field(default_factory=set)

    def look(self, *, again: bool = False) -> None:
        """Add what runs now; `again`: those too that have run for long and were looked at."""
        there = set(psutil.pids())
        self._own &= there
        self._settled &= there
        for gone in self._shown.keys() - there:
            del self._shown[gone]
        if again:
            self._settled.clear()
            self._shown.clear()
        for pid in there - self._settled:
            with suppress(psutil.Error, OSError):
                self._look_at(pid)

    def _look_at(self, pid: int) -> None:
        """Add the process if it belongs here; it is read again when it became another program.

        A process between fork and exec shows what its parent is.
        """
        image = _image(pid)
        if image.age_s > _YOUNG_S:
            self._settled.add(pid)
        if image.place == _NOWHERE:
            return
        place, shown = self._shown.get(pid, (_NOWHERE, Process("", ())))
        if image.place != place:
            process = psutil.Process(pid)
            command, environment = process.cmdline(), process.environ()
            if image.place != _image(pid).place:  # it became another program in between
                self._settled.discard(pid)
                return
            shown = Process(" ".join(command), tuple(sorted(environment.items())))
            self._shown[pid] = (image.place, shown)
            if str(self.root) in "\0".join(environment.values()):
                self._own.add(pid)
        if pid in self._own or image.parent in self._own:
            self._own.add(pid)
            self._found.add(shown)

    def all(self) -> list[Process]:
        """Return every process that was seen, those without a command (zombies) left out."""
        return sorted((p for p in self._found if p.command), key=lambda process: process.command)

    def of(self, word: str) -> list[Process]:
        """Return the processes whose command has a word."""
        return [process for process in self.all() if word in process.command]


@contextmanager
def watched(root: Path) -> Iterator[Seen]:
    """Look at /proc all the time during the block."""
    seen, ended = Seen(root), threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            seen.look()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def files_that_tell(directory: Path, secrets: Sequence[str] = (SESAME,)) -> list[Path]:
    """Return the files below directory that hold a part of a secret."""
    files = (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    words = [secret.encode() for secret in secrets]
    return [path for path in files if any(word in path.read_bytes() for word in words)]
