"""What a killed process has left under a temporary name goes, what another one uses stays."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.core.files.durable import write_atomically
from tasks.core.files.temporary import SCRATCH, TEMPORARY, remove_abandoned, scratch_directory

FILE = """
from tasks.core.files.durable import named_when_whole
with named_when_whole(here / "record.json") as file:
    file.write(b"half")
    file.flush()
    wait()
"""
DIRECTORY = """
from tasks.core.files.temporary import scratch_directory
with scratch_directory("proof") as directory:
    (directory / "half").mkdir()
    wait()
"""
WAITS = """
import sys
from pathlib import Path
def wait():
    print("waits", flush=True)
    sys.stdin.read()
here = Path(sys.argv[1])
"""


@contextmanager
def using(script: str, here: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Have a process use what is temporary during the block, which ends it with SIGKILL."""
    with subprocess.Popen(
        [sys.executable, "-c", WAITS + script, str(here)],
        env={**os.environ, "TMPDIR": str(here)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waits\n"
        yield process
        process.kill()


def write_another(here: Path) -> None:
    write_atomically(here / "other.json", "{}")


def make_another(here: Path) -> None:
    with scratch_directory("proof"):
        pass


@pytest.mark.parametrize(("script", "another"), [(FILE, write_another), (DIRECTORY, make_another)])
def test_what_a_killed_process_left_goes_with_the_next_one_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, another
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with using(script, tmp_path):
        another(tmp_path)
        (used,) = [
            path for path in tmp_path.iterdir() if path.name.startswith((TEMPORARY, SCRATCH))
        ]
    assert used.exists()
    another(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["other.json"])


def test_what_another_machine_left_goes_after_a_day(tmp_path: Path) -> None:
    left = tmp_path / f"{TEMPORARY}held-00000000-left"
    left.touch()
    write_another(tmp_path)
    assert left.exists()
    os.utime(left, times=(time.time() - 25 * 3600,) * 2)
    write_another(tmp_path)
    assert not left.exists()


def test_a_directory_that_another_one_removes_before_it_is_held_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    mkdtemp = tempfile.mkdtemp

    def made_while_another_one_tidies_up(**how: str | Path) -> str:
        made.append(mkdtemp(**how))  # type: ignore[arg-type]
        if len(made) == 1:
            remove_abandoned(tmp_path)
        return made[-1]

    monkeypatch.setattr("tempfile.mkdtemp", made_while_another_one_tidies_up)
    with scratch_directory("proof", beside=tmp_path) as directory:
        assert [str(directory)] == made[1:]
        assert directory.is_dir()
