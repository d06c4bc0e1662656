"""An artifact of the store after a power cut: whole or not there; and there once returned."""

from pathlib import Path

import pytest

from tasks.core.errors import CorruptArtifact
from tasks.core.keys import stage_key
from tasks.core.store import RemoteStore, Staging, Store
from tasks.core.store.checks import wrong_content
from tasks.core.store.sharing import Sharing
from tests.power.recorder import Recording, recorded

KEY = stage_key("merge", 1, {})
_LARGE = 140_000  # does not stay when an artifact is freed


def _write(staging: Staging) -> None:
    (staging.path / "code").mkdir(exist_ok=True)
    (staging.path / "code" / "model.py").write_text("model = 1\n")
    (staging.path / "weights").write_bytes(bytes(range(250)) * (_LARGE // 250))


def _look(home: Path, promised: frozenset[str]) -> None:
    """Raise unless what the store shows is whole, and shows what was promised."""
    store = Store(home)
    found = store.find(KEY)
    if found is not None:
        assert list(wrong_content(found.path)) == []
    freed = store.freed(str(KEY))
    if freed is not None:
        assert (home / "store/.freed" / str(KEY) / "code/model.py").read_text() == "model = 1\n"
    if "artifact" in promised:
        assert found is not None, "the artifact that was returned"
    if "artifact or note" in promised:
        assert found is not None or freed is not None, "an artifact that was freed"


@pytest.fixture
def committed(disk: Path) -> Recording:
    with recorded(disk) as recording:
        Store(disk).build(KEY, _write)
        recording.promise("artifact")
    return recording


def test_an_artifact_is_whole_or_not_there_and_there_once_it_was_returned(committed, survey):
    found = survey(committed, _look)
    assert found.wrong == ()
    assert found.states > 100


@pytest.mark.parametrize(
    "sync",
    [
        pytest.param(".", id="the name of the store"),
        pytest.param("store", id="the name of the artifact"),
        pytest.param("*/weights", id="the bytes of a file"),
        pytest.param("*/code", id="the names in a directory"),
        pytest.param("*/.tmp-*", id="the bytes of the manifest"),
    ],
)
def test_each_sync_of_the_commit_is_needed(committed, is_needed, sync):
    assert is_needed(committed, _look, sync)


def test_an_artifact_that_is_freed_leaves_its_note(disk, survey, is_needed):
    Store(disk).build(KEY, _write)
    with recorded(disk) as recording:
        recording.promise("artifact or note")
        assert Store(disk).free(str(KEY))
    assert survey(recording, _look).wrong == ()
    assert is_needed(recording, _look, "store")
    assert is_needed(recording, _look, "store/.freed/*/.tmp-*")


def test_an_artifact_that_is_made_again_takes_the_place_of_its_note(disk, survey, is_needed):
    Store(disk).build(KEY, _write)
    Store(disk).free(str(KEY))
    with recorded(disk) as recording:
        recording.promise("artifact or note")
        Store(disk).build(KEY, _write)
        recording.promise("artifact")
        recording.promise("artifact or note")
        Store(disk).free(str(KEY))
    assert survey(recording, _look).wrong == ()
    assert is_needed(recording, _look, f"store/.freed/{KEY}")


def test_an_artifact_that_is_removed_is_whole_until_it_is_gone(disk, survey, is_needed):
    store = Store(disk)
    path = store.build(KEY, _write).artifact.path
    with recorded(disk) as recording:
        store.remove([path])
    assert survey(recording, _look).wrong == ()
    assert is_needed(recording, _look, "store")


def test_an_artifact_that_is_fetched_is_whole_or_not_there(disk, survey, is_needed, shared):
    with recorded(disk) as recording:
        Store(disk, say=lambda _: None, remote=shared).pull(str(KEY))
        recording.promise("artifact")
    assert survey(recording, _look).wrong == ()
    for sync in ("store", "*/weights", "*/code", "*/.tmp-*"):
        assert is_needed(recording, _look, sync), sync


def test_the_note_of_an_artifact_that_is_left_at_the_remote_store_is_whole(
    disk, survey, is_needed, shared
):
    found = shared.find(str(KEY))
    assert found is not None
    with recorded(disk) as recording:
        Sharing(Store(disk), shared, lambda _: None).leave_there(found)
    assert survey(recording, _look).wrong == ()
    for sync in ("*/model.py", "*/code"):
        assert is_needed(recording, _look, sync), sync


@pytest.fixture
def shared(tmp_path: Path) -> RemoteStore:
    """A remote store that has the artifact of another machine."""
    (tmp_path / "shared").mkdir()
    remote = RemoteStore.open(f"file://{tmp_path}/shared")
    Store(tmp_path / "other", say=lambda _: None, remote=remote).build(KEY, _write)
    return remote


def test_a_damaged_artifact_is_replaced_by_a_whole_one(disk, survey):
    def look(home: Path, promised: frozenset[str]) -> None:
        try:
            _look(home, promised)
        except CorruptArtifact:
            assert not promised  # the damaged one is still there, and known for one

    path = Store(disk).build(KEY, _write).artifact.path
    (path / "weights").unlink()
    with recorded(disk) as recording:
        Store(disk).build(KEY, _write)
        recording.promise("artifact")
    assert survey(recording, look).wrong == ()
