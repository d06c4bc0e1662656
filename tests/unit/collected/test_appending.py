"""Lines that are added to a file: whole, or not there, whatever happens meanwhile."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.collected import appending
from tasks.core.collected.appending import append
from tasks.core.collected.reviewing import look
from tests.unit.collected.answers import Kept


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    append(tmp_path / "lines", b"one\n")
    real = os.write

    def full(fd: int, content: bytes) -> int:
        if len(content) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, content[:4])

    monkeypatch.setattr(appending.os, "write", full)
    with pytest.raises(OSError, match="No space"):
        append(tmp_path / "lines", b"three\n")
    assert (tmp_path / "lines").read_bytes() == b"one\n"


def test_what_a_power_cut_left_of_a_line_stays_a_line_apart(tmp_path):
    (tmp_path / "lines").write_bytes(b"one\ntw")
    append(tmp_path / "lines", b"three\n")
    assert (tmp_path / "lines").read_bytes() == b"one\ntw\nthree\n"


def test_a_file_is_its_owners_alone_from_the_first_byte(tmp_path):
    append(tmp_path / "lines", b"one\n")
    assert (tmp_path / "lines").stat().st_mode & 0o777 == 0o600
    (tmp_path / "lines").chmod(0o644)
    append(tmp_path / "lines", b"two\n")
    assert (tmp_path / "lines").stat().st_mode & 0o777 == 0o600


REVIEWER = """
import sys
from itertools import count
from pathlib import Path
from tasks.core.collected.reviewing import Opinion, decide
directory, name = Path(sys.argv[1]), sys.argv[2]
seen = None
for number in count():
    seen = decide(directory, Opinion(name, "accept", f"suntingan {number}", seen), name).time
    print(number, flush=True)
"""


def test_a_reviewer_who_is_killed_has_lost_no_decision_that_was_confirmed(tmp_path):
    kept = Kept(tmp_path / "collected")
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    with subprocess.Popen(
        [sys.executable, "-c", REVIEWER, str(kept.directory), "chatcmpl-1"],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        text=True,
    ) as process:
        assert process.stdout is not None
        for _ in range(5):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        confirmed = [int(line) for line in process.stdout.read().splitlines() if line.isdigit()]
    found = look(kept.directory, "chatcmpl-1")
    assert found.review is not None
    assert found.review.answer is not None
    assert int(found.review.answer.split()[-1]) >= max(confirmed, default=4)
