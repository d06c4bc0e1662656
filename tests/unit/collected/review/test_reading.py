"""What was collected, read back: also where a line is torn, changed, or of somebody else."""

import json
from datetime import timedelta

from tasks.core.collected.review.reading import read_collected
from tasks.core.collected.storage.directory import REVIEWS_FILE
from tasks.core.collected.storage.lines import MAX_LINE_BYTES, BadLine
from tasks.core.collected.storage.records import line_of
from tests.collected import BUDI, MONDAY, a_rating, a_review, an_answer, write


def test_nothing_is_read_where_nothing_was_collected(tmp_path):
    assert list(read_collected(tmp_path / "not there")) == []


def test_a_torn_line_is_told_of_and_the_lines_beside_it_are_read(tmp_path):
    torn = line_of(an_answer("chatcmpl-torn"))[:40]
    whole = line_of(an_answer()), line_of(an_answer("chatcmpl-2"))
    (tmp_path / "2026-11-30.jsonl").write_bytes(whole[0] + torn + b"\n" + whole[1] + torn)
    bad: list[BadLine] = []

    found = [each.answer.id for each in read_collected(tmp_path, bad.append)]

    assert found == ["chatcmpl-1", "chatcmpl-2"]
    assert [each.offset for each in bad] == [len(whole[0]), sum(map(len, whole)) + 41]


def test_what_is_told_of_a_bad_line_holds_none_of_its_text(tmp_path):
    line = json.loads(line_of(an_answer(answer="rahasia"))) | {"verdict": "rahasia"}
    (tmp_path / "2026-11-30.jsonl").write_text(json.dumps(line) + "\n")
    bad: list[BadLine] = []

    assert list(read_collected(tmp_path, bad.append)) == []

    assert [str(each) for each in bad if "rahasia" in str(each)] == []
    assert len(bad) == 1


def test_a_line_without_end_takes_no_more_memory_than_a_line_may(tmp_path):
    with (tmp_path / "2026-11-30.jsonl").open("wb") as file:
        file.write(line_of(an_answer()))
        file.truncate(MAX_LINE_BYTES * 3)
    bad: list[BadLine] = []

    assert [each.answer.id for each in read_collected(tmp_path, bad.append)] == ["chatcmpl-1"]

    assert bad[0].size_bytes > MAX_LINE_BYTES


def test_other_files_in_the_directory_are_no_days(tmp_path):
    for name in ("notes.jsonl", "2026-11-30.jsonl.bak", "salt"):
        write(tmp_path / name, an_answer())

    assert list(read_collected(tmp_path)) == []


def test_the_latest_rating_counts_also_one_of_a_later_day(tmp_path):
    write(tmp_path / "2026-11-30.jsonl", an_answer(), a_rating(verdict="up"))
    write(tmp_path / "2026-12-01.jsonl", a_rating(verdict="down"))

    (only,) = read_collected(tmp_path)

    assert only.rating is not None
    assert only.rating.verdict == "down"


def test_the_latest_review_counts(tmp_path):
    write(tmp_path / "2026-11-30.jsonl", an_answer())
    write(tmp_path / REVIEWS_FILE, a_review(decision="accept"), a_review(decision="reject"))

    (only,) = read_collected(tmp_path)

    assert only.review is not None
    assert only.review.decision == "reject"


def test_the_rating_of_another_person_does_not_count(tmp_path):
    write(tmp_path / "2026-11-30.jsonl", an_answer(), a_rating(person=BUDI))

    (only,) = read_collected(tmp_path)

    assert only.rating is None


def test_a_rating_whose_answer_is_gone_is_nothing(tmp_path):
    write(tmp_path / "2026-11-30.jsonl", a_rating("chatcmpl-gone"))

    assert list(read_collected(tmp_path)) == []


def test_answers_come_in_the_order_of_their_days(tmp_path):
    for days in (2, 0, 1):
        day = (MONDAY + timedelta(days=days)).date()
        write(tmp_path / f"{day}.jsonl", an_answer(f"chatcmpl-{days}"))

    assert [each.answer.id for each in read_collected(tmp_path)] == [
        "chatcmpl-0",
        "chatcmpl-1",
        "chatcmpl-2",
    ]
