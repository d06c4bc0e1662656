"""Lines that are added: whole, on the disk, and for their owner's eyes only."""

import multiprocessing
from pathlib import Path

import pytest

from tasks.core.collected.privacy.person import person_of, salt_of
from tasks.core.collected.storage.directory import directory_lock
from tasks.core.collected.storage.writing import append
from tasks.core.errors import UsageError


def _append_many(path: Path) -> None:
    for _ in range(40):
        with directory_lock(path.parent, "a test"):
            append(path, b"x" * 5000 + b"\n")


def _append_within(path: Path, limit_bytes: int) -> None:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    with pytest.raises(OSError, match="too large"):
        append(path, b"x" * 5000 + b"\n")


def test_a_line_that_has_no_room_leaves_none_of_itself(tmp_path):
    file = tmp_path / "2026-11-30.jsonl"
    append(file, b"first\n")
    child = multiprocessing.get_context("spawn").Process(target=_append_within, args=(file, 100))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert file.read_bytes() == b"first\n"


def test_what_is_torn_stays_a_line_apart(tmp_path):
    file = tmp_path / "2026-11-30.jsonl"
    file.write_bytes(b"whole\nhal")
    append(file, b"next\n")
    assert file.read_bytes() == b"whole\nhal\nnext\n"


def test_lines_of_several_processes_do_not_mix(tmp_path):
    file = tmp_path / "2026-11-30.jsonl"
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_append_many, args=(file,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert file.read_bytes().splitlines() == [b"x" * 5000] * 80


def test_the_file_is_its_owners_alone_also_one_that_was_open(tmp_path):
    new, old = tmp_path / "2026-11-30.jsonl", tmp_path / "2026-12-01.jsonl"
    old.touch()
    old.chmod(0o644)
    for file in (new, old):
        append(file, b"line\n")
        assert file.stat().st_mode & 0o777 == 0o600


def test_a_damaged_salt_is_not_replaced_by_another_one(tmp_path):
    salt_of(tmp_path)
    (tmp_path / "salt").write_bytes(b"half")
    with pytest.raises(UsageError, match="salt of the collected answers is damaged"):
        salt_of(tmp_path)
    assert (tmp_path / "salt").read_bytes() == b"half"


def test_a_person_is_another_one_in_another_deployment(tmp_path):
    (tmp_path / "other").mkdir()
    salts = [salt_of(tmp_path), salt_of(tmp_path), salt_of(tmp_path / "other")]
    one, same, other = (person_of("anybody", "siti@toko.id", salt) for salt in salts)
    assert one == same != other
    assert (tmp_path / "salt").stat().st_mode & 0o777 == 0o600
    assert len(one) == 32
    assert "siti" not in one
