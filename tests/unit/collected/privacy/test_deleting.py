"""What is deleted is gone: by person, by age, by size; and what stays is whole."""

import errno
import os
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import pytest

from tasks.core.collected.privacy.forgetting import forget
from tasks.core.collected.privacy.retention import keep_within
from tasks.core.collected.review.reading import read_collected
from tasks.core.collected.storage.directory import ALL_OVER, REVIEWS_FILE, day_files
from tasks.core.collected.storage.records import line_of
from tasks.core.collected.storage.search import find_answer
from tasks.core.files.copies import CHUNK_BYTES
from tests.collected import BUDI, SITI, a_rating, a_review, an_answer, write

TODAY = date(2026, 11, 30)


def day(directory: Path, ago: int) -> Path:
    return directory / f"{TODAY - timedelta(days=ago)}.jsonl"


def everything_in(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


@pytest.fixture
def two_people(tmp_path: Path) -> Path:
    for ago in (0, 1):
        write(
            day(tmp_path, ago),
            an_answer(f"siti-{ago}", person=SITI),
            a_rating(f"siti-{ago}", person=SITI),
            an_answer(f"budi-{ago}", person=BUDI),
        )
    write(tmp_path / REVIEWS_FILE, a_review("siti-0"), a_review("budi-0", person=BUDI))
    return tmp_path


def test_nothing_of_a_person_stays_in_any_file(two_people):
    assert forget(two_people, SITI) == 2

    assert SITI.encode() not in everything_in(two_people)
    assert b"siti" not in everything_in(two_people)
    assert [each.answer.id for each in read_collected(two_people)] == ["budi-1", "budi-0"]
    assert (two_people / REVIEWS_FILE).read_bytes() == line_of(a_review("budi-0", person=BUDI))
    assert {path.stat().st_mode & 0o777 for path in day_files(two_people)} == {0o600}


def test_whoever_has_nothing_there_changes_no_file(two_people):
    before = {path: path.stat() for path in two_people.iterdir()}
    assert forget(two_people, "0" * 32) == 0
    assert {path: path.stat().st_ino for path in before} == {p: s.st_ino for p, s in before.items()}


def test_a_line_that_cannot_be_read_goes_with_its_person(tmp_path):
    torn = line_of(an_answer("siti-torn"))[:-5]
    day(tmp_path, 0).write_bytes(torn + b"\n" + line_of(an_answer("budi-0", person=BUDI)) + torn)
    forget(tmp_path, SITI)
    assert day(tmp_path, 0).read_bytes() == line_of(an_answer("budi-0", person=BUDI))


def test_a_day_of_which_nothing_is_left_is_no_file(tmp_path):
    write(day(tmp_path, 0), an_answer())
    assert forget(tmp_path, SITI) == 1
    assert list(tmp_path.iterdir()) == []


_KILLED = """
import os, signal, sys
from pathlib import Path
from tasks.core.collected.storage import rewriting
from tasks.core.collected.privacy.forgetting import forget

lines = rewriting.raw_lines

def until_killed(path):
    for number, line in enumerate(lines(path)):
        yield line
        if path.name == sys.argv[2] and number == 1:
            os.kill(os.getpid(), signal.SIGKILL)

rewriting.raw_lines = until_killed
forget(Path(sys.argv[1]), sys.argv[3])
"""


def test_a_kill_while_deleting_leaves_whole_files_and_the_next_call_ends_it(two_people):
    of_today = day(two_people, 0)
    before = of_today.read_bytes()
    script = [sys.executable, "-c", _KILLED, str(two_people), of_today.name, SITI]
    killed = subprocess.run(script, check=False, env={**os.environ})
    assert killed.returncode == -signal.SIGKILL
    assert of_today.read_bytes() == before

    forget(two_people, SITI)

    assert SITI.encode() not in everything_in(two_people)
    assert [each.answer.id for each in read_collected(two_people)] == ["budi-1", "budi-0"]


def test_nothing_is_kept_for_longer_than_its_days(tmp_path):
    for ago in (0, 1, 89, 90, 400):
        write(day(tmp_path, ago), an_answer(f"chatcmpl-{ago}"))
    assert keep_within(tmp_path, retention_days=90, max_bytes=10**9, today=TODAY)
    assert day_files(tmp_path) == [day(tmp_path, 89), day(tmp_path, 1), day(tmp_path, 0)]


def test_the_oldest_days_go_when_there_is_too_much(tmp_path):
    for ago in range(4):
        day(tmp_path, ago).write_bytes(b"x" * 99 + b"\n")
    limits = {"retention_days": 90, "today": TODAY}
    assert keep_within(tmp_path, **limits, max_bytes=300, coming_bytes=50)
    assert day_files(tmp_path) == [day(tmp_path, 1), day(tmp_path, 0)]


def test_today_stays_and_takes_no_more_once_it_is_full(tmp_path):
    for ago in range(2):
        day(tmp_path, ago).write_bytes(b"x" * 99 + b"\n")
    limits = {"retention_days": 90, "today": TODAY, "max_bytes": 120}
    assert not keep_within(tmp_path, **limits, coming_bytes=50)
    assert day_files(tmp_path) == [day(tmp_path, 0)]


def test_reviews_go_with_the_day_of_their_answers(two_people):
    write(
        two_people / REVIEWS_FILE,
        a_review("siti-1"),
        a_review("budi-0", person=BUDI),
        a_review("siti-0"),
    )
    assert keep_within(two_people, retention_days=1, max_bytes=10**9, today=TODAY)
    assert b"siti-1" not in everything_in(two_people)
    assert b"siti-0" in (two_people / REVIEWS_FILE).read_bytes()
    assert b"budi-0" in (two_people / REVIEWS_FILE).read_bytes()


def test_a_rating_on_a_later_day_goes_with_its_answer(tmp_path):
    write(day(tmp_path, 1), an_answer("chatcmpl-1"))
    write(day(tmp_path, 0), a_rating("chatcmpl-1"), an_answer("chatcmpl-0"))
    assert keep_within(tmp_path, retention_days=1, max_bytes=10**9, today=TODAY)
    assert b"chatcmpl-1" not in everything_in(tmp_path)
    assert b"chatcmpl-0" in everything_in(tmp_path)


@pytest.mark.parametrize("full", [False, True])
def test_where_no_opinion_goes_no_file_is_written_anew_and_a_full_disk_loses_days_first(
    tmp_path, monkeypatch, full
):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write(day(tmp_path, 1), an_answer("chatcmpl-1"))
    write(day(tmp_path, 0), an_answer("chatcmpl-0"))
    write(tmp_path / REVIEWS_FILE, a_review("chatcmpl-1" if full else "chatcmpl-0"))
    monkeypatch.setattr("tasks.core.collected.privacy.retention.rewrite", refuse)
    limits = {"retention_days": 1, "max_bytes": 10**9, "today": TODAY}
    if full:
        with pytest.raises(OSError, match="No space"):
            keep_within(tmp_path, **limits)
    else:
        keep_within(tmp_path, **limits)
    assert day_files(tmp_path) == [day(tmp_path, 0)]


def test_what_a_wrong_clock_would_take_all_at_once_waits_an_hour(tmp_path, caplog):
    for ago in (200, 100):
        write(day(tmp_path, ago), an_answer(f"chatcmpl-{ago}"))
    limits = {"retention_days": 90, "max_bytes": 10**9, "today": TODAY}
    for _ in range(2):
        keep_within(tmp_path, **limits)
        assert len(day_files(tmp_path)) == 2
    assert caplog.text.count("would expire at once") == 1
    an_hour_ago = time.time() - 3600
    os.utime(tmp_path / ALL_OVER, (an_hour_ago, an_hour_ago))
    keep_within(tmp_path, **limits)
    assert day_files(tmp_path) == []
    assert not (tmp_path / ALL_OVER).exists()


def test_an_answer_that_is_kept_while_the_clock_is_wrong_takes_nothing_away(tmp_path):
    write(day(tmp_path, 0), an_answer())
    wrong = TODAY + timedelta(days=5000)
    limits = {"retention_days": 90, "max_bytes": 10**9}
    keep_within(tmp_path, **limits, today=wrong)
    write(tmp_path / f"{wrong}.jsonl", an_answer("chatcmpl-2"))
    keep_within(tmp_path, **limits, today=wrong)
    assert day(tmp_path, 0).exists()


def test_a_clock_that_was_put_right_leaves_nothing_behind(tmp_path):
    write(day(tmp_path, 0), an_answer())
    limits = {"retention_days": 90, "max_bytes": 10**9}
    keep_within(tmp_path, **limits, today=TODAY + timedelta(days=5000))
    assert (tmp_path / ALL_OVER).exists()
    keep_within(tmp_path, **limits, today=TODAY)
    assert list(tmp_path.iterdir()) == [day(tmp_path, 0)]


def test_a_file_of_another_name_is_no_day_and_stays(tmp_path):
    others = [tmp_path / "2026-13-45.jsonl", tmp_path / "2020-01-01.jsonl.gz"]
    for path in others:
        path.write_bytes(b"x" * 1000)
    assert keep_within(tmp_path, retention_days=1, max_bytes=100, today=TODAY)
    assert all(path.exists() for path in others)


def test_an_answer_is_found_in_whichever_day_and_place(tmp_path):
    long = an_answer("chatcmpl-long", answer="x" * (CHUNK_BYTES - 300))
    for ago in range(3):
        write(day(tmp_path, ago), long, an_answer(f"chatcmpl-{ago}"), a_rating(f"chatcmpl-{ago}"))
    for ago in range(3):
        assert find_answer(tmp_path, f"chatcmpl-{ago}") == an_answer(f"chatcmpl-{ago}")
    assert find_answer(tmp_path, "chatcmpl-none") is None


@pytest.mark.parametrize("before", range(0, 60, 3))
def test_an_answer_is_found_across_the_edge_of_what_is_read_at_once(tmp_path, before):
    line = line_of(an_answer("chatcmpl-edge"))
    day(tmp_path, 0).write_bytes(b"x" * (CHUNK_BYTES - before - 1) + b"\n" + line)
    assert find_answer(tmp_path, "chatcmpl-edge") is not None


def test_a_text_that_quotes_an_answer_is_not_taken_for_it(tmp_path):
    quoted = line_of(an_answer("chatcmpl-quoted")).decode()
    write(day(tmp_path, 0), an_answer("chatcmpl-1", answer=quoted))
    assert find_answer(tmp_path, "chatcmpl-quoted") is None


def test_a_rating_alone_is_no_answer(tmp_path):
    write(day(tmp_path, 0), a_rating("chatcmpl-1"))
    assert find_answer(tmp_path, "chatcmpl-1") is None
