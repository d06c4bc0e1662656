"""Artifacts shared through a remote store: on a directory, in memory, and on a real S3 server."""

import errno
import json
import threading
from pathlib import Path

import pytest

from tasks.core.errors import (
    CorruptArtifact,
    CorruptRemote,
    MissingTool,
    StorageRefused,
    StorageUnavailable,
    UsageError,
)
from tasks.core.keys import StageKey, stage_key
from tasks.core.storage.directory import StorageDirectory
from tasks.core.store import Built, RemoteStore, Staging, Store, configured_remote
from tests.s3_server import KEYS, use
from tests.unit.store.conftest import Machine

KEY = stage_key("merge", 1, {"dtype": "float16"})


def two_files(staging: Staging) -> None:
    (staging.path / "model.bin").write_bytes(b"weights" * 100_000)
    (staging.path / "sub").mkdir(exist_ok=True)
    (staging.path / "sub" / "config.json").write_text("{}")
    (staging.path / "empty").touch()
    staging.note(shards=1)


def other_bytes(staging: Staging) -> None:
    (staging.path / "model.bin").write_bytes(b"another training's weights")


def fail(_: Staging) -> None:
    raise AssertionError("it was built although the remote store has it")


def build(store: Store, key: StageKey = KEY) -> Built:
    return store.build(key, two_files, params={"dtype": "float16"}, inputs={"base": "b" * 64})


def content(built: Built) -> dict[str, bytes]:
    path = built.artifact.path
    return {name: (path / name).read_bytes() for name in built.artifact.manifest.files}


def blob(store: Store, name: str = "model.bin") -> str:
    artifact = store.find(KEY)
    assert artifact is not None
    return f"files/{artifact.manifest.files[name].sha256}"


# --- what is broken or in the way -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["truncated", "other bytes", "missing"])
def test_an_artifact_with_a_broken_file_is_built_anew_and_mends_the_remote_one(
    machine: Machine, url: str, said: list[str], kind: str
) -> None:
    first = machine("first")
    build(first)
    place = StorageDirectory.open(url)
    if kind == "missing":
        place.remove(blob(first))
    else:
        size = 699_999 if kind == "truncated" else 700_000
        place.replace(blob(first), b"x" * size)
    second = machine("second")
    assert not build(second).cached
    assert any("is broken" in line for line in said)
    assert machine("third").build(KEY, fail).cached


@pytest.mark.parametrize("manifest", [b"", b"not json", b'{"format": 1}', b"\xff\x00"])
def test_a_garbage_manifest_counts_as_none_and_is_replaced(
    machine: Machine, url: str, manifest: bytes
) -> None:
    StorageDirectory.open(url).replace(f"{KEY}/manifest.json", manifest)
    assert not build(machine("first")).cached
    assert machine("second").build(KEY, fail).cached


def test_a_manifest_with_a_wrong_digest_commits_nothing(machine: Machine, url: str) -> None:
    build(machine("first"))
    place = StorageDirectory.open(url)
    manifest = json.loads(place.read(f"{KEY}/manifest.json"))
    manifest["files"]["model.bin"]["sha256"] = "0" * 64
    place.replace(f"{KEY}/manifest.json", json.dumps(manifest).encode())
    second = machine("second")
    built = build(second)
    assert not built.cached
    assert content(built)["model.bin"] == b"weights" * 100_000
    assert machine("third").build(KEY, fail).artifact.digest == built.artifact.digest


def test_a_manifest_of_another_key_is_not_taken(machine: Machine, url: str) -> None:
    build(machine("first"))
    place, other = StorageDirectory.open(url), stage_key("merge", 2, {})
    place.replace(f"{other}/manifest.json", place.read(f"{KEY}/manifest.json"))
    assert not build(machine("second"), other).cached


def test_a_manifest_that_leaves_its_directory_is_not_taken(
    machine: Machine, url: str, tmp_path: Path
) -> None:
    build(machine("first"))
    place = StorageDirectory.open(url)
    manifest = json.loads(place.read(f"{KEY}/manifest.json"))
    manifest["files"]["../../escaped"] = manifest["files"].pop("model.bin")
    place.replace(f"{KEY}/manifest.json", json.dumps(manifest).encode())
    assert not build(machine("second")).cached
    assert list(tmp_path.rglob("escaped")) == []


def test_foreign_files_are_left_alone_and_not_listed(machine: Machine, url: str) -> None:
    place = StorageDirectory.open(url)
    foreign = {"photos/cat.jpg": b"cat", "merge-of-ours/readme.txt": b"hello", "notes.txt": b"n"}
    for name, data in foreign.items():
        place.replace(name, data)
    build(machine("first"))
    assert [name for name, _ in RemoteStore.open(url).artifacts()] == [str(KEY)]
    assert {name: place.read(name) for name in foreign} == foreign


def test_a_service_that_changes_what_it_is_sent_is_caught_by_reading(
    machine: Machine, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = StorageDirectory.send

    def changed(self: StorageDirectory, source: Path, path: str, tick: object = None) -> None:
        before(self, b"z" * source.stat().st_size, path)

    with monkeypatch.context() as patch:
        patch.setattr(StorageDirectory, "send", changed)
        with pytest.raises(CorruptRemote, match="other bytes than were sent"):
            build(machine("first"))
    assert list(RemoteStore.open(url).artifacts()) == []
    assert machine("first").build(KEY, fail).cached
    assert machine("second").build(KEY, fail).cached


def test_a_file_that_was_damaged_here_is_not_shared(machine: Machine, url: str) -> None:
    store = Store(machine("first").root.parent)
    path = build(store).artifact.path / "model.bin"
    path.chmod(0o644)
    path.write_bytes(b"y" * 700_000)
    with pytest.raises(CorruptArtifact, match="has changed"):
        machine("first").push(str(KEY))
    assert list(RemoteStore.open(url).artifacts()) == []
    assert not build(machine("first")).cached


# --- several machines -----------------------------------------------------------------------


def test_what_one_machine_built_the_other_fetches(machine: Machine) -> None:
    built = build(machine("first"))
    second = machine("second")
    found = second.build(KEY, fail)
    assert found.cached
    assert content(found) == content(built)
    assert found.artifact.manifest == built.artifact.manifest
    assert second.verify() == {str(KEY): []}
    names = ("manifest.json", *content(found))
    assert {(found.artifact.path / n).stat().st_mode & 0o7777 for n in names} == {0o444}


def test_what_was_fetched_is_not_offered_to_where_it_came_from(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(machine("first"))
    monkeypatch.delattr(RemoteStore, "push")
    assert machine("second").build(KEY, fail).cached


def test_of_two_with_other_bytes_the_first_one_counts_and_the_other_adopts_it(
    machine: Machine, url: str, said: list[str]
) -> None:
    second = machine("second")

    def slower(staging: Staging) -> None:
        build(machine("first"))
        other_bytes(staging)

    built = second.build(KEY, slower)
    assert content(built)["model.bin"] == b"weights" * 100_000
    assert any("another machine was first" in line for line in said)
    assert second.verify() == {str(KEY): []}
    assert machine("third").build(KEY, fail).artifact.digest == built.artifact.digest


def test_what_was_built_upon_here_is_never_exchanged(
    machine: Machine, tmp_path: Path, said: list[str]
) -> None:
    alone = Store(tmp_path / "second")
    mine = alone.build(KEY, other_bytes).artifact
    alone.build(stage_key("edit", 1, {}), two_files, inputs={"model": mine.digest})
    build(machine("first"))
    second = machine("second")
    assert second.build(KEY, fail).artifact.digest == mine.digest
    assert any("stays as it is" in line for line in said)
    said.clear()
    assert second.build(KEY, fail).artifact.digest == mine.digest
    assert said == []


def test_machines_that_finish_one_key_at_once_end_in_one_whole_artifact(
    machine: Machine, url: str
) -> None:
    ready = threading.Barrier(4)
    digests: dict[int, str] = {}

    def work(number: int) -> None:
        def write(staging: Staging) -> None:
            (staging.path / "model.bin").write_bytes(bytes([number]) * 300_000)
            ready.wait()

        digests[number] = machine(f"machine-{number}").build(KEY, write).artifact.digest

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(digests.values())) == 1
    fifth = machine("fifth")
    assert fifth.build(KEY, fail).artifact.digest == digests[0]
    assert fifth.verify() == {str(KEY): []}


def test_content_that_is_there_already_is_not_sent_twice(
    machine: Machine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = machine("first")
    build(first)
    sent: list[str] = []
    send = StorageDirectory.send
    monkeypatch.setattr(
        StorageDirectory,
        "send",
        lambda self, source, path, tick: sent.append(path) or send(self, source, path, tick),
    )
    build(first, stage_key("edit", 1, {}))
    assert sent == []


def test_shared_content_that_was_removed_there_is_sent_again(machine: Machine, url: str) -> None:
    first = machine("first")
    build(first)
    StorageDirectory.open(url).remove(blob(first))
    edited = stage_key("edit", 1, {})
    build(first, edited)
    assert machine("second").build(edited, fail).cached


def test_content_that_is_here_already_is_not_fetched(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = machine("first"), machine("second")
    build(first)
    second.build(KEY, fail)
    build(first, stage_key("edit", 1, {}))
    asked: list[str] = []
    parts = StorageDirectory.parts
    monkeypatch.setattr(
        StorageDirectory,
        "parts",
        lambda self, path, size, start=0: asked.append(path) or parts(self, path, size, start),
    )
    assert second.build(stage_key("edit", 1, {}), fail).cached
    assert asked == []


def test_a_freed_artifact_is_fetched_rather_than_built(machine: Machine) -> None:
    store = machine("first")
    build(store)
    assert store.free(str(KEY))
    assert store.build(KEY, fail).cached


def test_a_freed_artifact_comes_back_as_it_was_or_is_built(
    machine: Machine, tmp_path: Path, said: list[str]
) -> None:
    alone = Store(tmp_path / "second")
    alone.build(KEY, other_bytes)
    alone.free(str(KEY))
    build(machine("first"))
    built = machine("second").build(KEY, other_bytes)
    assert not built.cached
    assert any("differs from the one that was made here" in line for line in said)


def test_a_run_with_nothing_new_asks_the_remote_store_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(machine("first"))
    store = machine("first")
    for name in ("find", "size_bytes", "create", "parts", "send"):
        monkeypatch.delattr(StorageDirectory, name)
    assert store.build(KEY, fail).cached


def test_pruning_here_removes_nothing_there(machine: Machine, url: str) -> None:
    store = machine("first")
    built = build(store)
    store.remove([built.artifact.path])
    assert store.find(KEY) is None
    assert [name for name, _ in RemoteStore.open(url).artifacts()] == [str(KEY)]
    assert store.build(KEY, fail).cached


# --- what is told before the work starts ----------------------------------------------------


def test_a_missing_bucket_is_told(s3_url: str) -> None:
    with pytest.raises(StorageRefused, match="no such bucket"):
        RemoteStore.open("s3://no-such-bucket/artifacts").require_usable()


def test_no_bucket_is_ever_made(s3_url: str) -> None:
    import s3fs

    with pytest.raises(StorageRefused):
        RemoteStore.open("s3://no-such-bucket/artifacts").require_usable()
    assert "no-such-bucket" not in s3fs.S3FileSystem().ls("")


def test_missing_keys_are_told(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    use(monkeypatch, "http://127.0.0.1:9", keys={})
    with pytest.raises(StorageRefused, match="AWS_ACCESS_KEY_ID"):
        RemoteStore.open(s3_url).require_usable()


def test_a_server_that_refuses_the_connection_may_be_asked_again(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(StorageUnavailable, match="cannot be reached"):
        RemoteStore.open(s3_url).require_usable()


def test_a_directory_that_is_not_mounted_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageRefused, match="mount it"):
        RemoteStore.open(f"file://{tmp_path}/share").require_usable()
    assert not (tmp_path / "share").exists()


def test_a_file_system_without_hard_links_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    with pytest.raises(StorageRefused, match="no hard links"):
        RemoteStore.open(f"file://{tmp_path}").require_usable()
    assert list(tmp_path.iterdir()) == []


def test_a_usable_place_is_left_as_it_was(url: str) -> None:
    RemoteStore.open(url).require_usable()
    assert StorageDirectory.open(url).files("") == {}


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        ("s3://key:sesame@bucket/artifacts", UsageError),
        ("unheard-of://bucket", UsageError),
        ("gs://bucket/artifacts", MissingTool),
    ],
    ids=["with a password", "of an unknown protocol", "without its library"],
)
def test_a_setting_that_cannot_be_used_is_explained_without_its_secret(
    setting: str, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAWAN_USAHA_REMOTE", setting)
    with pytest.raises(kind) as refused:
        configured_remote()
    assert "sesame" not in str(refused.value)


def test_without_the_setting_there_is_no_remote_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAWAN_USAHA_REMOTE", " ")
    assert configured_remote() is None
