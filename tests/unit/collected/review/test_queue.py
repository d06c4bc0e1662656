"""Which answer is to be reviewed next, and what is written when somebody has decided."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.core.collected.review import outlines, queue
from tasks.core.collected.review.queue import NewReview, Rank, decide, find_for_review, to_review
from tasks.core.collected.review.reading import read_collected
from tasks.core.collected.storage.directory import REVIEWS_FILE, day_file, directory_lock
from tasks.core.errors import DecidedMeanwhile, NotCollected, UsageError
from tests.collected import MONDAY, Kept

REVIEWER = """
import sys
from itertools import count
from pathlib import Path
from tasks.core.collected.review.queue import NewReview, decide
directory, name = Path(sys.argv[1]), sys.argv[2]
seen = None
for number in count():
    seen = decide(directory, NewReview(name, "accept", f"suntingan {number}", seen), name).time
    print(number, flush=True)
"""


@pytest.fixture
def kept(tmp_path):
    return Kept(tmp_path / "collected")


def names(listing):
    return [found.answer.id for found in listing.items]


@pytest.mark.parametrize("answer_id", ["chatcmpl-2", "chatcmpl", "", "hatcmpl-1"])
def test_an_answer_that_is_not_kept_cannot_be_decided_about(kept, answer_id):
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    with pytest.raises(NotCollected):
        decide(kept.directory, NewReview(answer_id, "accept"), "rina")
    with pytest.raises(NotCollected):
        find_for_review(kept.directory, answer_id)
    assert not (kept.directory / REVIEWS_FILE).exists()


def test_where_nothing_was_collected_there_is_nothing_to_review_and_nothing_is_made(tmp_path):
    place = tmp_path / "collected"
    assert to_review(place, limit=5).items == ()
    with pytest.raises(NotCollected):
        decide(place, NewReview("chatcmpl-1", "accept"), "rina")
    assert not place.exists()


def test_nobody_decides_over_a_decision_that_they_have_not_seen(kept):
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    first = decide(kept.directory, NewReview("chatcmpl-1", "accept"), "rina")
    with pytest.raises(DecidedMeanwhile, match="accept, by rina"):
        decide(kept.directory, NewReview("chatcmpl-1", "reject"), "joko")
    decide(kept.directory, NewReview("chatcmpl-1", "reject", seen=first.time), "joko")
    (found,) = read_collected(kept.directory)
    assert found.review is not None
    assert (found.review.decision, found.review.reviewer) == ("reject", "joko")


def test_of_reviewers_who_decide_at_once_one_is_heard_and_the_others_are_told(kept):
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")

    def one(number: int) -> str:
        try:
            decide(kept.directory, NewReview("chatcmpl-1", "accept"), f"tim-{number}")
        except DecidedMeanwhile:
            return "told"
        return "heard"

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(one, range(8)))
    assert sorted(ends) == ["heard", *["told"] * 7]
    assert len((kept.directory / REVIEWS_FILE).read_bytes().splitlines()) == 1


def test_reviewers_of_different_answers_do_not_spoil_each_others_lines(kept):
    ids = [kept.answer(f"chatcmpl-{number}", "Bisa?", f"Ya {number}.") for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: decide(kept.directory, NewReview(name, "accept"), "tim"), ids))
    assert all(found.review is not None for found in read_collected(kept.directory))


def test_a_reviewer_who_is_killed_has_lost_no_decision_that_was_confirmed(kept):
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    with subprocess.Popen(
        [sys.executable, "-c", REVIEWER, str(kept.directory), "chatcmpl-1"],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[4])},
        text=True,
    ) as process:
        assert process.stdout is not None
        for _ in range(5):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        confirmed = [int(line) for line in process.stdout.read().splitlines() if line.isdigit()]
    found = find_for_review(kept.directory, "chatcmpl-1")
    assert found.review is not None
    assert found.review.answer is not None
    assert int(found.review.answer.split()[-1]) >= max(confirmed, default=4)


def test_no_personal_data_of_an_edit_reaches_the_disk(kept):
    kept.answer("chatcmpl-1", "Siapa saya?", "Anda [nama] dari Bandung.")
    edit = "Anda Siti dari Bandung, telepon 0812-3456-7890, surel siti@warung.co.id."
    made = decide(kept.directory, NewReview("chatcmpl-1", "accept", edit), "rina")
    assert made.answer == "Anda [nama] dari Bandung, telepon [telepon], surel [email]."
    assert b"Siti" not in (kept.directory / REVIEWS_FILE).read_bytes()


def test_an_edit_without_a_word_is_refused(kept):
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    with pytest.raises(UsageError):
        decide(kept.directory, NewReview("chatcmpl-1", "accept", " \n"), "rina")


def test_an_edit_that_changes_nothing_is_none(kept):
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    assert decide(kept.directory, NewReview("chatcmpl-1", "accept", "Ya."), "rina").answer is None


def test_the_worst_rated_come_first_then_the_newest(kept):
    kept.answer("liked", "a?", "b", rated="up")
    kept.answer("old", "a?", "b")
    kept.answer("disliked-old", "a?", "b", rated="down")
    kept.answer("corrected", "a?", "b", correction="c")
    kept.answer("new", "a?", "b")
    kept.answer("disliked-new", "a?", "b", rated="down", correction="c")
    kept.answer("done", "a?", "b", rated="down")
    kept.review("done")
    listing = to_review(kept.directory, limit=10)
    assert names(listing) == ["disliked-new", "corrected", "disliked-old", "new", "old", "liked"]
    assert listing.waiting == 6
    assert listing.after is None
    assert names(to_review(kept.directory, limit=10, which="all"))[-1] == "done"
    assert names(to_review(kept.directory, limit=10, which="reviewed")) == ["done"]


def test_the_parts_of_a_list_make_the_whole_also_when_one_is_reviewed_between(kept):
    for number in range(7):
        kept.answer(f"chatcmpl-{number}", "a?", "b")
    first = to_review(kept.directory, limit=3)
    decide(kept.directory, NewReview(names(first)[-1], "accept"), "rina")
    assert first.after is not None
    second = to_review(kept.directory, limit=3, after=Rank.read(str(first.after)))
    assert names(first) == ["chatcmpl-6", "chatcmpl-5", "chatcmpl-4"]
    assert names(second) == ["chatcmpl-3", "chatcmpl-2", "chatcmpl-1"]
    assert second.waiting == 6


@pytest.mark.parametrize("text", ["", "0.1", "0.1.x.a", "2.0.1.a", "0.1.1.a b", "0.1.1.\n"])
def test_a_place_in_the_list_that_nobody_has_given_is_refused(text):
    with pytest.raises(UsageError):
        Rank.read(text)


def test_one_answer_is_found_as_the_reading_of_all_of_them_finds_it(kept):
    kept.answer("chatcmpl-1", "Apa itu chatcmpl-2?", "Sebuah id.", rated="down", correction="Nomor")
    kept.answer("chatcmpl-2", "Bisa?", "Ya.", rated="up")
    kept.review("chatcmpl-1", "reject")
    assert [find_for_review(kept.directory, f"chatcmpl-{n}") for n in (1, 2)] == list(
        read_collected(kept.directory)
    )


def test_many_answers_are_listed_in_little_memory(kept):
    """50 MB of answers, of which three are shown."""
    kept.answer("chatcmpl-0", "Bisa?", "Ya. " * 250)
    day = day_file(kept.directory, MONDAY.date())
    line = day.read_bytes()
    with day.open("wb") as file:
        for number in range(40_000):
            file.write(line.replace(b"chatcmpl-0", b"chatcmpl-%d" % number))
    script = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from tasks.core.collected.review.queue import to_review\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "found = to_review(Path(sys.argv[1]), limit=3)\n"
        "print(found.waiting, peak() - before)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(kept.directory)], capture_output=True, check=True
    )
    waiting, grown_kb = map(int, told.stdout.split())
    assert waiting == 40_000
    assert grown_kb < 20_000


def test_of_a_list_only_what_is_shown_is_read_whole(kept, monkeypatch):
    for number in range(50):
        kept.answer(f"chatcmpl-{number}", "Bisa?", "Ya.", rated="down")
    real, reads = outlines.record_at, []
    monkeypatch.setattr(outlines, "record_at", lambda place: reads.append(place) or real(place))
    assert len(to_review(kept.directory, limit=3).items) == 3
    assert len(reads) == 6  # the answers and their ratings


def test_a_list_leaves_out_a_line_that_only_begins_like_an_answer(kept):
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    day = day_file(kept.directory, MONDAY.date())
    line = day.read_bytes()
    spoiled = line.replace(b'"messages"', b'"massages"').replace(b"chatcmpl-1", b"chatcmpl-2")
    day.write_bytes(spoiled + line + spoiled[:-20] + b"\n" + spoiled)
    listing = to_review(kept.directory, limit=5)
    assert (names(listing), listing.waiting, listing.after) == (["chatcmpl-1"], 1, None)
    first = to_review(kept.directory, limit=1)
    assert names(first) == ["chatcmpl-1"]
    assert to_review(kept.directory, limit=1, after=first.after).items == ()


def test_the_order_is_the_same_whether_an_answer_is_read_or_not(kept):
    kept.answer("liked", "a?", "b", rated="up")
    kept.answer("corrected", "a?", "b", correction="c")
    kept.answer("unrated", "a?", "b")
    kept.review("unrated")
    ranks = [Rank.of(found) for found in read_collected(kept.directory)]
    assert [Rank.of_outline(each) for each in outlines.outlines(kept.directory)] == ranks


def test_a_decision_is_later_than_what_it_is_about(kept):
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    made = decide(kept.directory, NewReview("chatcmpl-1", "accept"), "rina")
    assert made.time.utcoffset() == timedelta(0)


def test_a_list_is_shown_while_an_answer_is_being_written(kept):
    """Else a reviewer would wait for the gateway, and the gateway for the reviewer."""
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    with directory_lock(kept.directory, "a test"):
        assert names(to_review(kept.directory, limit=5, wait_s=0)) == ["chatcmpl-1"]
        assert find_for_review(kept.directory, "chatcmpl-1").answer.id == "chatcmpl-1"


def test_a_list_that_was_read_while_something_was_deleted_is_read_again(kept, monkeypatch):
    """Else the rating of one answer could be taken for another's, which stands there now."""
    for number in range(3):
        kept.answer(f"chatcmpl-{number}", "Bisa?", "Ya.", rated="down")
    day = day_file(kept.directory, MONDAY.date())
    real, reads = queue.outlines, []

    def then_deleted(directory):
        yield from real(directory)
        reads.append(1)
        if len(reads) == 1:
            left = day.read_bytes().splitlines(keepends=True)[2:]
            day.rename(day.with_suffix(".old"))  # its inode is not given to the next file
            day.write_bytes(b"".join(left))

    monkeypatch.setattr(queue, "outlines", then_deleted)
    assert names(to_review(kept.directory, limit=5)) == ["chatcmpl-2", "chatcmpl-1"]
    assert len(reads) >= 2
