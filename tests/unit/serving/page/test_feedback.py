"""Judgements and corrections: whole lines in a file of its owner."""

import json
import multiprocessing
from pathlib import Path

import pytest

from tasks.core.serving.page.feedback import judgement, keep

SAID = [
    {"role": "user", "content": "Apa itu NIB?"},
    {"role": "assistant", "content": "Nomor Induk Berusaha.\nUntuk usaha."},
]


def judged(correction: str | None = None):
    return judgement(SAID, model="m", build="b7", verdict="down", correction=correction)


def _keep_many(path: Path) -> None:
    for _ in range(40):
        keep(path, judged("x" * 5000))


def test_a_line_holds_all_that_was_said_and_judged(tmp_path):
    file = tmp_path / "judged.jsonl"
    keep(file, judged("Nomor Induk Berusaha, lewat OSS."))
    line = json.loads(file.read_text())
    assert line.pop("time").endswith("Z")
    assert line == {
        "model": "m",
        "build": "b7",
        "conversation": SAID[:1],
        "answer": SAID[1]["content"],
        "verdict": "down",
        "correction": "Nomor Induk Berusaha, lewat OSS.",
    }


def test_the_file_is_its_owners_alone_also_one_that_was_open(tmp_path):
    new, old = tmp_path / "new.jsonl", tmp_path / "old.jsonl"
    old.touch()
    old.chmod(0o644)
    for file in (new, old):
        keep(file, judged())
        assert file.stat().st_mode & 0o777 == 0o600


def test_lines_of_several_processes_do_not_mix(tmp_path):
    file = tmp_path / "judged.jsonl"
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_keep_many, args=(file,)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 3 * 40


def _keep_within(path: Path, limit_bytes: int) -> None:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    with pytest.raises(OSError, match="too large"):
        keep(path, judged("x" * 5000))


def test_a_line_that_has_no_room_leaves_none_of_itself(tmp_path):
    file = tmp_path / "judged.jsonl"
    keep(file, judged())
    before = file.read_bytes()
    child = multiprocessing.get_context("spawn").Process(
        target=_keep_within, args=(file, len(before) + 100)
    )
    child.start()
    child.join()
    assert child.exitcode == 0
    assert file.read_bytes() == before
