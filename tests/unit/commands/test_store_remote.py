"""`kawan-usaha store push`, `pull` and `list --remote`."""

import json
from pathlib import Path

import pytest

from tasks.core.keys import stage_key
from tasks.core.storage.directory import StorageDirectory
from tasks.core.store import Staging, Store
from tests.command_line import Run

MERGE, EDIT = stage_key("merge", 1, {}), stage_key("edit", 1, {})


def write(staging: Staging) -> None:
    (staging.path / "model.bin").write_bytes(b"weights")


@pytest.fixture
def remote(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("KAWAN_USAHA_REMOTE", f"file://{tmp_path}/shared")
    return f"file://{tmp_path}/shared"


def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(tmp_path / "elsewhere"))


@pytest.mark.parametrize("words", [("push",), ("pull", "--all"), ("list", "--remote")])
def test_without_a_remote_store_it_is_said_how_to_name_one(
    run: Run, home: Path, words: tuple[str, ...]
) -> None:
    code, _, errors = run("store", *words)
    assert code == 2
    assert "export KAWAN_USAHA_REMOTE" in errors


def test_a_directory_that_is_not_mounted_is_told(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAWAN_USAHA_REMOTE", f"file://{tmp_path}/nowhere")
    Store(home).build(MERGE, write)
    code, _, errors = run("store", "push")
    assert code == 2
    assert "mount it" in errors
    assert not (tmp_path / "nowhere").exists()


def test_a_name_that_nothing_has_is_refused(run: Run, remote: str) -> None:
    code, _, errors = run("store", "push", "merge-unknown")
    assert code == 2
    assert "no such artifact" in errors


def test_a_beginning_that_two_have_is_refused(run: Run, remote: str, home: Path) -> None:
    for number in range(2):
        Store(home).build(stage_key("merge", number, {}), write)
    code, _, errors = run("store", "push", "merge-")
    assert code == 2
    assert "Several artifacts" in errors


def test_pull_wants_names_or_all(run: Run, remote: str) -> None:
    assert run("store", "pull")[0] == 2
    assert run("store", "pull", "merge-1", "--all")[0] == 2


def test_a_broken_artifact_there_is_listed_and_not_fetched(
    run: Run, remote: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    StorageDirectory.open(remote).replace(f"{MERGE}/manifest.json", b"garbage")
    code, output, _ = run("store", "list", "--remote", "--json")
    assert code == 0
    (row,) = json.loads(output)
    assert (row["artifact"], row["here"]) == (str(MERGE), False)
    assert "cannot be read" in row["broken"]
    code, _, errors = run("store", "pull", str(MERGE))
    assert code == 1
    assert "broken" in errors


def test_pull_all_passes_over_what_is_no_artifact(run: Run, remote: str, home: Path) -> None:
    StorageDirectory.open(remote).replace("releases/demo/demo-20261129T120000000000.json", b"{}")
    StorageDirectory.open(remote).replace("notes/of-somebody-else.txt", b"milk")
    code, output, _ = run("store", "pull", "--all")
    assert (code, output.strip()) == (0, "There is nothing to transfer.")


def test_list_remote_shows_as_shared_what_is_there_now(
    run: Run, remote: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(home).build(MERGE, write)
    run("store", "push")
    assert "shared" in run("store", "list", "--remote")[1]
    elsewhere(tmp_path, monkeypatch)
    Store(tmp_path / "elsewhere").build(MERGE, write)
    assert "shared" in run("store", "list", "--remote")[1], "it was not fetched from there"
    StorageDirectory.open(remote).remove(f"{MERGE}/manifest.json")
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(home))
    assert "shared" not in run("store", "list", "--remote")[1], "it was pushed once"


def test_what_was_made_before_there_was_a_remote_store_is_pushed_and_pulled(
    run: Run, remote: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(home).build(MERGE, write)
    Store(home).build(EDIT, write)
    code, output, _ = run("store", "push", "--json")
    assert code == 0
    assert [row["shared"] for row in json.loads(output)] == [True, True]
    elsewhere(tmp_path, monkeypatch)
    assert "only at the remote store" in run("store", "ls", "--remote")[1]
    code, output, _ = run("store", "pull", "merge-")
    assert code == 0
    assert f"{MERGE}" in output
    assert [str(a.key) for a in Store(tmp_path / "elsewhere").artifacts()] == [str(MERGE)]
    rows = {row["artifact"]: row for row in json.loads(run("store", "ls", "--remote", "--json")[1])}
    assert (rows[str(MERGE)]["here"], rows[str(EDIT)]["here"]) == (True, False)
