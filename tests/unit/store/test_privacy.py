"""What people wrote stays on the machine, and with its owner."""

from pathlib import Path

import pytest

from tasks.core.errors import UsageError
from tasks.core.keys import StageKey, stage_key
from tasks.core.store import Artifact, RemoteStore, Staging, Store, configured_remote
from tasks.core.store.manifest import freed_place
from tasks.core.store.privacy import PRIVATE_VARIABLE

COLLECTED = stage_key("collected", 1, {})
PREPARED = stage_key("prepare", 1, {})
TRAINED = stage_key("finetune", 1, {})


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """An empty remote store."""
    (tmp_path / "shared").mkdir()
    return tmp_path / "shared"


def machine(tmp_path: Path, name: str, shared: Path, *, takes_private: bool = False) -> Store:
    remote = RemoteStore.open(f"file://{shared}", takes_private=takes_private)
    return Store(tmp_path / name, remote=remote)


def collected(staging: Staging) -> None:
    staging.keep_private()
    (staging.path / "conversations.jsonl").write_text("Apa itu NIB?")


def prepared(staging: Staging) -> None:
    (staging.path / "tokens.bin").write_text("Apa itu NIB? in tokens")


def trained(staging: Staging) -> None:
    staging.holds_no_text()
    (staging.path / "adapter.bin").write_bytes(b"weights")


def built(store: Store) -> tuple[Artifact, Artifact, Artifact]:
    one = store.build(COLLECTED, collected).artifact
    two = store.build(PREPARED, prepared, needs=[one.path.name]).artifact
    three = store.build(TRAINED, trained, needs=[two.path.name]).artifact
    return one, two, three


def private_twice(staging: Staging) -> None:
    staging.keep_private()
    trained(staging)


def is_open(directory: Path) -> bool:
    return bool(directory.stat().st_mode & 0o077)


def names_in(shared: Path) -> set[str]:
    return {path.name for path in shared.iterdir()}


def test_a_variable_that_says_neither_is_refused(monkeypatch, shared):
    monkeypatch.setenv("KAWAN_USAHA_REMOTE", f"file://{shared}")
    monkeypatch.setenv(PRIVATE_VARIABLE, "no")
    with pytest.raises(UsageError, match=PRIVATE_VARIABLE):
        configured_remote()


def test_nothing_of_what_people_wrote_leaves_the_machine_and_a_model_does(tmp_path, shared):
    store = machine(tmp_path, "first", shared)
    texts = built(store)[:2]
    for artifact in texts:
        store.push(artifact.path.name)
        assert not store.is_shared(artifact)
    assert not any(b"NIB" in path.read_bytes() for path in shared.rglob("*") if path.is_file())
    assert str(TRAINED) in names_in(shared)
    assert store.build(COLLECTED, fail).cached


def test_a_damaged_input_counts_as_private(tmp_path, shared):
    store = machine(tmp_path, "first", shared)
    manifest = built(store)[0].path / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text("{")
    other = stage_key("evaluate", 1, {})
    assert store.build(other, prepared, needs=[str(COLLECTED)]).artifact.manifest.private


def test_only_the_owner_enters_it_also_where_it_was_fetched_or_freed(tmp_path, shared, monkeypatch):
    monkeypatch.setenv("KAWAN_USAHA_REMOTE", f"file://{shared}")
    monkeypatch.setenv(PRIVATE_VARIABLE, "share")
    one, two, three = built(Store(tmp_path / "first", remote=configured_remote()))
    other = machine(tmp_path, "second", shared)
    fetched = [other.build(key, fail).artifact for key in (COLLECTED, PREPARED)]
    assert not any(is_open(each.path) for each in (one, two, *fetched))
    assert is_open(three.path)
    other.free(str(PREPARED))
    assert not is_open(freed_place(other.root / str(PREPARED)))


@pytest.mark.parametrize("write", [trained, private_twice])
def test_weights_made_of_what_people_wrote_are_as_open_as_any(tmp_path, write):
    store = Store(tmp_path)
    texts = store.build(COLLECTED, collected).artifact
    other = store.build(stage_key("download", 1, {}), trained).artifact
    weights = store.build(TRAINED, write, needs=[texts.path.name]).artifact
    assert weights.path.stat().st_mode == other.path.stat().st_mode


def test_what_a_killed_stage_has_written_is_its_owners_alone(tmp_path):
    store = Store(tmp_path)
    one = store.build(COLLECTED, collected).artifact

    def killed(staging: Staging) -> None:
        prepared(staging)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.build(PREPARED, killed, needs=[one.path.name])
    assert not is_open(store.root / ".staging" / str(PREPARED))


def test_the_manifest_of_any_other_artifact_is_as_earlier_versions_read_it(tmp_path):
    made = Store(tmp_path).build(StageKey("merge", "a" * 64), prepared).artifact
    assert "private" not in (made.path / "manifest.json").read_text()


def fail(_: Staging) -> None:
    raise AssertionError("it was built although it is there")
