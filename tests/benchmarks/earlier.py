"""An earlier revision of this project, run beside this one: the figure to be faster than."""

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parents[2]
EARLIER = "bd49c02"
"""Before the work on speed of November 2026."""
_IMPORTS_THEN = {
    "proof.edit_proof import prove_edit": "proof import prove_edit",
    "evaluate import evaluate_models": "evaluate import evaluate as evaluate_models",
    "figures import subjects_of": "figures import chain as subjects_of",
}
"""What a program imports today, and what that was called in the earlier revision."""

_MARK = "measured:"
_TOLD = f"""
import atexit, pathlib, re
def told():
    status = pathlib.Path("/proc/self/status").read_text()
    print("{_MARK}", re.search(r"VmHWM:\\s+(\\d+)", status)[1], flush=True)
atexit.register(told)
"""


@dataclass(frozen=True)
class Took:
    """One run of a program: its seconds, its own peak of memory, how it ended, what it printed."""

    wall_s: float
    peak_bytes: int
    exit_code: int
    output: str


@contextmanager
def checkout(revision: str = EARLIER) -> Iterator[Path]:
    """Yield a directory that holds the files of a revision of this repository."""
    packed = subprocess.run(
        ["git", "archive", revision], check=True, stdout=subprocess.PIPE, cwd=HERE
    ).stdout
    with tempfile.TemporaryDirectory(prefix="kawan-usaha-earlier-") as root:
        with tarfile.open(fileobj=io.BytesIO(packed)) as files:
            files.extractall(root, filter="data")
        yield Path(root)


def run_in(tree: Path, program: str, *arguments: str, env: Mapping[str, str] | None = None) -> Took:
    """Run a program with the project's files of one tree, in a process of its own.

    The program is written for this tree; in an earlier one it imports what was there then.
    """
    if tree != HERE:
        for now, then in _IMPORTS_THEN.items():
            program = program.replace(now, then)
    started = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-c", _TOLD + program, *arguments],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tree,
        env={**os.environ, **(env or {}), "PYTHONPATH": str(tree)},
    )
    wall_s = time.perf_counter() - started
    *printed, peak = ended.stdout.rpartition(_MARK)
    return Took(wall_s, int(peak or 0) * 1024, ended.returncode, printed[0])


def show_row(row: str, ours_s: Sequence[float], theirs_s: Sequence[float], **more: object) -> None:
    """Print a row as JSON: our shortest time in shares of theirs, so that less is better."""
    ours, theirs = min(ours_s), min(theirs_s)
    figures = {"ours_s": round(ours, 3), "earlier_s": round(theirs, 3)}
    print(json.dumps({"row": row, "ratio": round(ours / theirs, 3), **figures, **more}), flush=True)
