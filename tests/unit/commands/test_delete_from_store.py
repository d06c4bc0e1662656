"""What is said of the store once answers were deleted."""

import json

import pytest

from flows.actions.forget import removed_from_store
from tasks.core.collected.privacy.forgetting import forget
from tasks.core.collected.privacy.person import person_of, salt_of
from tasks.core.collected.remote_copies import copies_at
from tasks.core.collected.review.reviewed_set import reviewed_set
from tasks.core.collected.stale_artifacts import COLLECTED_STAGE
from tasks.core.collected.storage.directory import COLLECTED, directory_lock
from tasks.core.keys import stage_key
from tasks.core.store import RemoteStore, Staging, Store, configured_remote
from tests.collected import SITI, Kept
from tests.command_line import kawan_usaha


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(tmp_path))
    kept = Kept(tmp_path / "serving" / "warung" / COLLECTED)
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    kept.review("chatcmpl-1")
    return kept


def the_set(home, kept):
    files = reviewed_set(kept.directory).files()

    def write(staging: Staging) -> None:
        for name, content in files.items():
            (staging.path / name).write_bytes(content)

    key, params = stage_key(COLLECTED_STAGE, 1, {}), {"deployment": "warung"}
    return Store(home, remote=configured_remote()).build(key, write, params=params).artifact


def test_what_a_remote_store_has_of_it_is_named(tmp_path, monkeypatch, kept):
    (tmp_path / "shared").mkdir()
    url = f"file://{tmp_path}/shared"
    monkeypatch.setenv("KAWAN_USAHA_REMOTE", url)
    artifact = the_set(tmp_path, kept)
    with directory_lock(kept.directory, "a test"):
        forget(kept.directory, SITI)
    removed = removed_from_store()
    assert removed.artifacts == (str(artifact.key),)
    assert f"{url}/{artifact.key}" in removed.at_remote
    assert len(removed.at_remote) == 3  # beside it, the conversation and who reviewed it
    assert len(removed.lines()) == 4


def test_pruning_names_what_a_remote_store_has_of_what_was_deleted(
    tmp_path, monkeypatch, capsys, kept
):
    (tmp_path / "shared").mkdir()
    url = f"file://{tmp_path}/shared"
    monkeypatch.setenv("KAWAN_USAHA_REMOTE", url)
    artifact = the_set(tmp_path, kept)
    with directory_lock(kept.directory, "a test"):
        forget(kept.directory, SITI)
    code, output, _ = kawan_usaha(monkeypatch, capsys, "store", "prune")
    assert (code, artifact.path.exists()) == (0, False)
    assert f"to be deleted at the remote store by hand: {url}/{artifact.key}" in output


def test_a_copy_of_which_nothing_can_be_told_is_named(tmp_path):
    (tmp_path / "collected-1").mkdir()
    (tmp_path / "collected-1" / "manifest.json").write_text("{")
    remote = RemoteStore.open(f"file://{tmp_path}")
    assert copies_at(remote, ["collected-1", "collected-2"]) == (f"{remote.url}/collected-1",)


def test_while_a_run_is_in_progress_the_answers_go_and_the_rest_with_the_next_command(
    tmp_path, monkeypatch, capsys, kept
):
    person = person_of("anybody", "siti", salt_of(kept.directory))
    kept.answer("chatcmpl-2", "Boleh?", "Boleh.", person=person)
    kept.review("chatcmpl-2", person=person)
    artifact = the_set(tmp_path, kept)
    with Store(tmp_path).in_use():
        code, output, _ = kawan_usaha(
            monkeypatch, capsys, "data", "forget", "warung", "siti", "--json"
        )
    found = json.loads(output)
    assert (code, found["deleted"], found["artifacts"]) == (1, 1, [])
    assert "a run is in progress" in found["left"]["what"]
    assert artifact.path.is_dir()
    code, output, _ = kawan_usaha(monkeypatch, capsys, "data", "forget", "warung", "siti", "--json")
    assert code == 0
    assert json.loads(output)["artifacts"] == [str(artifact.key)]
    assert not artifact.path.exists()


def test_where_nothing_was_made_of_it_there_is_nothing_to_say(kept):
    assert removed_from_store().lines() == []
