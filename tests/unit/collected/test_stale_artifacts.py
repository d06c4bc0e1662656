"""What was made of answers that were deleted goes from the store, and what was not stays."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tasks import collected as task
from tasks.core.collected.privacy.forgetting import forget
from tasks.core.collected.review.reviewed_set import reviewed_set
from tasks.core.collected.stale_artifacts import remove_stale_artifacts, stale_artifacts
from tasks.core.collected.storage import kept_ids
from tasks.core.collected.storage.directory import COLLECTED, day_files, directory_lock
from tasks.core.collected.storage.lines import LineSpan, raw_lines
from tasks.core.conversation.reading.data_sources import REVIEWED_CONVERSATIONS
from tasks.core.errors import LockBusy
from tasks.core.files.digests import sha256_of
from tasks.core.keys import StageKey, digest, stage_key
from tasks.core.pruning import prunable, prune_store
from tasks.core.store import Artifact, RemoteStore, Staging, Store
from tasks.core.store.runs import RunRecords
from tests.collected import BUDI, SITI, Kept

SECRET = b"Resep rahasia keluarga."


class Boom(Exception):
    pass


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def kept(home: Path) -> Kept:
    """Two people's answers, reviewed."""
    kept = Kept(home / "serving" / "warung" / COLLECTED)
    for number in range(8):
        kept.answer(f"siti-{number}", f"Apa {number}?", SECRET.decode())
        kept.answer(f"budi-{number}", f"Berapa {number}?", "Seribu.", person=BUDI)
        kept.review(f"siti-{number}")
        kept.review(f"budi-{number}", person=BUDI)
    return kept


def a_set() -> Artifact:
    """The artifact of what is reviewed now."""
    made = task.collected.fn.__wrapped__("warung")
    return Store(made.path.parents[1]).there(made.artifact)


def built(
    home: Path, stage: str, inputs: Mapping[str, str] | None = None, content: bytes = b"x"
) -> Artifact:
    def write(staging: Staging) -> None:
        (staging.path / "file").write_bytes(content)

    key = stage_key(stage, 1, {}, inputs)
    return Store(home).build(key, write, inputs=inputs).artifact


def half(home: Path, stage: str, number: int = 0) -> StageKey:
    key = stage_key(stage, 1, number)

    def write(staging: Staging) -> None:
        (staging.path / "file").write_bytes(SECRET)
        raise Boom

    with pytest.raises(Boom):
        Store(home).build(key, write)
    return key


def deleted(kept: Kept, person: str = SITI) -> None:
    with directory_lock(kept.directory, "a test"):
        forget(kept.directory, person)


def holds(home: Path, text: bytes) -> list[str]:
    files = [path for path in home.rglob("*") if path.is_file()]
    return [str(path.relative_to(home)) for path in files if text in path.read_bytes()]


def test_nothing_of_a_deleted_person_is_anywhere_below_the_home(home, kept):
    first = a_set()
    prepared = built(
        home, "prepare", {"data": sha256_of(first.path / REVIEWED_CONVERSATIONS)}, SECRET
    )
    half(home, "collected")
    half(home, "prepare")
    (home / "store" / ".corrupt").mkdir()
    first.path.rename(home / "store" / ".corrupt" / f"{first.path.name}-20261130T120000000000")
    again = a_set()
    assert Store(home).free(str(prepared.key))
    deleted(kept)
    removed = remove_stale_artifacts(home)
    assert set(removed.artifacts) == {str(again.key), str(prepared.key)}
    assert holds(home, SECRET) == []
    assert "Seribu." in "".join(map(str, reviewed_set(kept.directory).conversations))


def test_what_was_made_of_other_answers_stays(home, kept):
    other = Kept(home / "serving" / "lain" / COLLECTED)
    other.answer("joko-1", "Apa?", "Ini.")
    other.review("joko-1")
    theirs = Store(home).there(task.collected.fn.__wrapped__("lain").artifact)
    a_set()
    stays = [theirs, built(home, "prepare"), built(home, "download"), built(home, "finetune")]
    checkpoints = half(home, "finetune")
    RunRecords(home).start("demo", reach=7).add(str(checkpoints))
    deleted(kept)
    assert remove_stale_artifacts(home).models == ()
    assert all(each.path.is_dir() for each in stays)
    assert (home / "store" / ".staging" / str(checkpoints)).is_dir()


def test_nothing_goes_while_everything_is_kept(home, kept):
    a_set()
    half(home, "prepare")
    half(home, "finetune")
    assert stale_artifacts(home).artifacts == ()
    assert stale_artifacts(home).going == {}


def test_a_later_review_takes_no_earlier_set_away(home, kept):
    before = a_set()
    kept.review("siti-0", "reject")
    after = a_set()
    assert before.key != after.key
    assert stale_artifacts(home).going == {}


def test_models_that_have_learned_from_a_deleted_answer_are_named_and_stay(home, kept):
    first = a_set()
    prepared = built(home, "prepare", {"data": first.digest})
    adapter = built(home, "finetune", {"examples": prepared.digest})
    fused = built(home, "fuse", {"adapter": adapter.digest})
    measured = built(home, "evaluate", {"fused": fused.digest})
    deleted(kept)
    removed = remove_stale_artifacts(home)
    assert removed.models == tuple(sorted((str(adapter.key), str(fused.key))))
    assert adapter.path.is_dir()
    assert fused.path.is_dir()
    assert not prepared.path.exists()
    assert not measured.path.exists()


def test_what_a_run_made_of_several_sources_is_found_by_the_record_of_the_run(home, kept):
    first = a_set()
    prepared = built(home, "prepare", {"data": digest([first.digest, "other"])})
    base = built(home, "download")
    run = RunRecords(home).start("demo", reach=7)
    for each in (base, first, prepared):
        run.add(str(each.key))
    unfinished = half(home, "finetune")
    run.add(str(unfinished))
    deleted(kept)
    remove_stale_artifacts(home)
    assert not prepared.path.exists()
    assert not (home / "store" / ".staging" / str(unfinished)).exists()
    assert base.path.is_dir()


def test_the_set_of_a_deployment_whose_directory_was_removed_goes(home, kept):
    first = a_set()
    (home / "serving" / "warung").rename(home / "removed")
    assert stale_artifacts(home).artifacts == (str(first.key),)


def test_the_set_of_a_deployment_of_another_machine_is_left_to_it(home, kept, tmp_path_factory):
    shared = tmp_path_factory.mktemp("shared")
    remote = RemoteStore.open(f"file://{shared}", takes_private=True)
    first = a_set()
    Store(home, remote=remote).push(str(first.key))
    other = tmp_path_factory.mktemp("other")
    for _ in range(2):
        Store(other, remote=remote).pull(str(first.key))
        Store(other, remote=remote).push(str(first.key))
    assert stale_artifacts(other).going == {}


def test_the_release_before_a_run_that_learned_from_a_deleted_answer_is_not_named(home, kept):
    other = built(home, "dataset", content=b"other")
    learned = built(home, "prepare", {"data": other.digest}, b"others")
    adapter = built(home, "finetune", {"examples": learned.digest}, b"adapter")
    before = built(home, "fuse", {"adapter": adapter.digest}, b"fused")
    measured = built(home, "evaluate", {"fused": before.digest}, b"figures")
    run = RunRecords(home).start("demo", reach=7)
    for each in (a_set(), before):
        run.add(str(each.key))
    deleted(kept)
    assert remove_stale_artifacts(home).models == ()
    assert learned.path.is_dir()
    assert measured.path.is_dir()


def test_what_is_kept_is_read_once_for_all_sets_and_no_line_of_it_is_taken_apart(
    home, kept, monkeypatch
):
    a_set()
    kept.review("siti-0", "reject")
    a_set()
    read: list[Path] = []

    def told(path: Path) -> Iterator[tuple[LineSpan, bytes]]:
        read.append(path)
        return raw_lines(path)

    monkeypatch.setattr(kept_ids, "raw_lines", told)
    monkeypatch.setattr(kept_ids, "records_in", None)
    assert stale_artifacts(home).going == {}
    assert len(read) == 1


@pytest.mark.parametrize(
    "line", [b'{"id":"siti-9","person":"5","time":"","kind":"answer","mo', b"", b"x\n"]
)
def test_a_torn_line_is_no_answer_that_is_kept(kept, line):
    kept.answer("joko-1", "Apa?", "Ini.", rated="up")
    (path,) = day_files(kept.directory)
    with path.open("ab") as file:
        file.write(line)
    found = kept_ids.kept_ids(kept.directory)
    assert "joko-1" in found
    assert "siti-9" not in found


def test_a_line_that_was_written_by_hand_is_read_all_the_same(kept):
    (path,) = day_files(kept.directory)
    path.write_bytes(path.read_bytes().replace(b'{"id":"siti', b'{"id": "siti'))
    assert "siti-0" in kept_ids.kept_ids(kept.directory)


def test_a_note_of_a_freed_set_goes_too(home, kept):
    first = a_set()
    assert Store(home).free(str(first.key))
    deleted(kept)
    remove_stale_artifacts(home)
    assert holds(home, b"Resep") == []


def test_while_a_run_is_in_progress_nothing_is_removed_and_it_can_be_done_later(home, kept):
    first = a_set()
    deleted(kept)
    with Store(home).in_use(), pytest.raises(LockBusy):
        remove_stale_artifacts(home)
    assert first.path.is_dir()
    assert remove_stale_artifacts(home).artifacts == (str(first.key),)


def test_pruning_removes_what_the_gateway_has_deleted_since_also_where_a_run_needs_it(home, kept):
    first = a_set()
    RunRecords(home).start("demo", reach=7).add(str(first.key))
    assert [item for item in prunable(home).items if item.path == first.path] == []
    deleted(kept)
    (going,) = [item for item in prunable(home).items if item.path == first.path]
    assert "no longer keeps" in going.reason
    prune_store(home)
    assert not first.path.exists()


def test_where_there_is_no_store_nothing_is_made(tmp_path):
    assert remove_stale_artifacts(tmp_path / "home").going == {}
    assert not (tmp_path / "home").exists()
