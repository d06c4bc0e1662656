"""What is kept of somebody who agreed, and what of a correction that comes later."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.core.collected.keeper import CollectionLimits, Keeper, OfferedAnswer
from tasks.core.collected.privacy.person import person_of, salt_of
from tasks.core.collected.privacy.promises import promise, promised
from tasks.core.collected.privacy.tombstones import bury
from tasks.core.collected.review.reading import read_collected
from tasks.core.collected.storage.directory import FORGOTTEN, PROMISED, day_file, directory_lock
from tasks.core.collected.storage.records import CollectedMessage
from tasks.core.errors import UsageError
from tests.collected import an_answer, write

LIMITS = CollectionLimits(retention_days=90, max_bytes=10**9)


def offered(
    name: str = "chatcmpl-1",
    user: str = "siti-7",
    answer: str = "Halo Siti!",
    begun: datetime | None = None,
) -> OfferedAnswer:
    said = "Nama saya Siti, WA 0812-3456-7890, siti@toko.id"
    messages = (CollectedMessage(role="user", content=said),)
    return OfferedAnswer(
        name, "anybody", user, "kawan", "b1", messages, answer, begun or datetime.now(UTC)
    )


def on_disk(directory: Path) -> str:
    return "".join(path.read_text() for path in directory.glob("*.jsonl"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "collected"


@pytest.fixture
def keeper(directory: Path) -> Keeper:
    return Keeper(directory, LIMITS)


def test_nothing_that_points_at_the_person_is_written(keeper, directory):
    assert keeper.keep(offered()) == "kept"
    assert (
        keeper.rate("chatcmpl-1", "anybody", "siti-7", "down", "Halo Siti, hubungi budi@toko.id")
        == "kept"
    )

    written = on_disk(directory)
    for word in ("Siti", "siti", "0812", "7890", "@", "budi"):
        assert word not in written
    (only,) = read_collected(directory)
    assert only.answer.messages[0].content == "Nama saya [nama], WA [telepon], [email]"
    assert only.answer.answer == "Halo [nama]!"
    assert only.rating is not None
    assert only.rating.correction == "Halo [nama], hubungi [email]"


def test_only_the_owner_enters(keeper, directory):
    keeper.keep(offered())
    assert directory.stat().st_mode & 0o777 == 0o700
    for path in (*directory.glob("*.jsonl"), directory / "salt"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_name_in_a_correction_is_found_after_a_restart_too(keeper, directory):
    keeper.keep(offered(answer="Halo Siti, omzet Anda di bawah batas, jadi tidak kena PPh."))
    anew = Keeper(directory, LIMITS)
    anew.rate(
        "chatcmpl-1", "anybody", "siti-7", None, "Halo Siti, omzet Anda masih di bawah batas."
    )
    (only,) = read_collected(directory)
    assert only.rating is not None
    assert only.rating.correction == "Halo [nama], omzet Anda masih di bawah batas."


def test_nobody_rates_what_is_not_theirs_or_not_there(keeper, directory):
    assert keeper.rate("chatcmpl-1", "anybody", "siti-7", "up", None) == "unknown"
    keeper.keep(offered())
    assert keeper.rate("chatcmpl-1", "anybody", "budi-3", "up", None) == "unknown"
    assert keeper.rate("chatcmpl-2", "anybody", "siti-7", "up", None) == "unknown"
    assert '"rating"' not in on_disk(directory)


def test_what_is_forgotten_is_gone_and_can_no_longer_be_rated(keeper, directory):
    keeper.keep(offered("chatcmpl-1"))
    keeper.keep(offered("chatcmpl-2"))
    keeper.keep(offered("chatcmpl-3", user="budi-3"))
    keeper.rate("chatcmpl-1", "anybody", "siti-7", "down", "Halo.")

    assert keeper.forget("anybody", "siti-7") == 2

    assert re.findall(r"chatcmpl-\d", on_disk(directory)) == ["chatcmpl-3"]
    assert keeper.rate("chatcmpl-1", "anybody", "siti-7", "up", None) == "unknown"
    assert keeper.forget("anybody", "siti-7") == 0


def test_an_answer_that_was_asked_for_before_its_person_was_forgotten_is_not_kept(
    keeper, directory
):
    keeper.prepare()
    asked_before = offered("chatcmpl-1")
    assert keeper.forget("anybody", "siti-7") == 0
    assert Keeper(directory, LIMITS).keep(asked_before) == "forgotten"
    assert keeper.keep(offered("chatcmpl-2", user="budi-3")) == "kept"
    assert keeper.keep(offered("chatcmpl-3")) == "kept"
    assert re.findall(r"chatcmpl-\d", on_disk(directory)) == ["chatcmpl-2", "chatcmpl-3"]


def test_who_was_forgotten_is_forgotten_too_after_a_day(keeper, directory):
    keeper.prepare()
    person = person_of("anybody", "siti-7", salt_of(directory))
    bury(directory, person, datetime.now(UTC) - timedelta(days=1))
    keeper.tidy()
    assert not (directory / FORGOTTEN).exists()


def test_a_damaged_list_of_the_forgotten_keeps_nothing_and_nobody_from_being_forgotten(
    keeper, directory
):
    keeper.keep(offered())
    (directory / FORGOTTEN).write_bytes(b'{"half')
    with pytest.raises(UsageError, match="damaged"):
        keeper.keep(offered("chatcmpl-2"))
    assert keeper.forget("anybody", "siti-7") == 1
    assert keeper.keep(offered("chatcmpl-3")) == "kept"


def test_the_same_id_is_another_person_at_another_client(keeper, directory):
    keeper.keep(offered("chatcmpl-1"))
    keeper.keep(replace(offered("chatcmpl-2"), client="warung"))
    assert keeper.rate("chatcmpl-1", "warung", "siti-7", "up", None) == "unknown"
    assert keeper.forget("warung", "siti-7") == 1
    assert re.findall(r"chatcmpl-\d", on_disk(directory)) == ["chatcmpl-1"]


def test_a_salt_that_is_gone_is_told_and_not_replaced(keeper, directory):
    keeper.keep(offered())
    (directory / "salt").unlink()
    for call in (lambda: keeper.forget("anybody", "siti-7"), lambda: keeper.keep(offered("c-2"))):
        with pytest.raises(UsageError, match="salt"):
            call()
    assert not (directory / "salt").exists()


def test_to_forget_somebody_makes_nothing_where_nothing_was_kept(keeper, directory):
    assert keeper.forget("anybody", "siti-7") == 0
    assert not directory.exists()


def test_a_day_that_is_full_takes_no_more(directory):
    keeper = Keeper(directory, CollectionLimits(retention_days=90, max_bytes=10_000))
    outcomes = [
        keeper.keep(offered(f"chatcmpl-{n}", f"user-{n}", answer="x" * 600)) for n in range(20)
    ]
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {"kept", "no-room"}
    assert sum(path.stat().st_size for path in directory.glob("*.jsonl")) <= 10_000


def test_one_person_fills_a_tenth_of_it_at_most(directory):
    limits = CollectionLimits(retention_days=90, max_bytes=20_000)
    for keeper in (Keeper(directory, limits), Keeper(directory, limits)):  # also after a restart
        for number in range(4):
            keeper.keep(offered(f"chatcmpl-{number}", answer="x" * 600))
    assert 1000 < len(on_disk(directory)) <= 2000
    assert keeper.keep(offered("chatcmpl-9", "budi-3")) == "kept"
    keeper.forget("anybody", "siti-7")
    assert keeper.keep(offered("chatcmpl-10")) == "kept"


def test_a_correction_takes_nobody_elses_answers_away(directory):
    yesterday = day_file(directory, datetime.now(UTC).date() - timedelta(days=1))
    keeper = Keeper(directory, CollectionLimits(retention_days=90, max_bytes=30_000))
    keeper.keep(offered(answer="x"))
    write(yesterday, an_answer("chatcmpl-9", answer="x" * 28_000))
    assert keeper.rate("chatcmpl-1", "anybody", "siti-7", None, "x" * 2000) == "no-room"
    assert keeper.rate("chatcmpl-1", "anybody", "siti-7", "down", None) == "kept"
    assert yesterday.exists()


def test_an_answer_is_rated_twenty_times_and_no_more(keeper, directory):
    keeper.keep(offered())
    outcomes = [keeper.rate("chatcmpl-1", "anybody", "siti-7", "up", None) for _ in range(22)]
    assert outcomes == ["kept"] * 20 + ["too-many"] * 2


def test_the_lock_is_free_while_a_correction_is_looked_through(keeper, directory, monkeypatch):
    def look_through(*_: str) -> frozenset[str]:
        with directory_lock(directory, "a test", wait_s=0):
            return frozenset()

    monkeypatch.setattr("tasks.core.collected.keeper.names_behind_placeholders", look_through)
    keeper.keep(offered())
    assert keeper.rate("chatcmpl-1", "anybody", "siti-7", None, "Halo.") == "kept"


def test_what_is_over_its_time_goes_without_anything_being_kept(keeper, directory):
    directory.mkdir()
    today = datetime.now(UTC).date()
    for ago in (91, 1):
        write(day_file(directory, today - timedelta(days=ago)), an_answer(f"chatcmpl-{ago}"))
    keeper.tidy()
    assert [each.answer.id for each in read_collected(directory)] == ["chatcmpl-1"]


def test_more_days_do_not_count_for_what_was_agreed_to_before(directory):
    directory.mkdir(mode=0o700)
    today = datetime.now(UTC).date()
    for ago, days in ((40, 30), (39, 60), (1, 30)):
        promise(directory, today - timedelta(days=ago), days, [today - timedelta(days=40)])
        write(day_file(directory, today - timedelta(days=ago)), an_answer(f"chatcmpl-{ago}"))
    Keeper(directory, LIMITS).tidy()
    assert [each.answer.id for each in read_collected(directory)] == ["chatcmpl-39", "chatcmpl-1"]


def test_what_is_promised_is_written_with_the_first_answer_of_a_day(directory):
    today = datetime.now(UTC).date()
    for days in (60, 30, 90):
        Keeper(directory, CollectionLimits(days, 10**9)).keep(offered(f"chatcmpl-{days}"))
    assert promised(directory) == {today: 30}


def test_a_damaged_promise_leaves_the_present_limit(keeper, directory):
    keeper.keep(offered())
    (directory / PROMISED).write_bytes(b'{"2026-')
    keeper.tidy()
    assert keeper.keep(offered("chatcmpl-2")) == "kept"
    assert len(promised(directory)) == 1


def test_the_directory_of_another_user_is_refused_or_closed(keeper, directory):
    directory.mkdir(mode=0o755)
    keeper.keep(offered())
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_damaged_salt_keeps_nothing(keeper, directory):
    keeper.keep(offered())
    (directory / "salt").write_bytes(b"")
    before = on_disk(directory)
    with pytest.raises(UsageError):
        keeper.keep(offered("chatcmpl-2"))
    assert on_disk(directory) == before


def test_readers_keep_nobody_from_reading(keeper, directory):
    keeper.keep(offered())
    with (
        directory_lock(directory, "read", shared=True),
        directory_lock(directory, "read too", shared=True, wait_s=0),
    ):
        assert len(list(read_collected(directory))) == 1


def test_lines_are_json_that_any_program_reads(keeper, directory):
    keeper.keep(offered())
    line = json.loads(on_disk(directory))
    assert line.keys() == {
        "id", "person", "time", "kind", "client", "model", "build", "messages", "answer",
        "cut",
    }  # fmt: skip
