"""What is published or shared, after a power cut where it lies: whole, and there once said."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tasks.core.demo.hub.blobs import BlobStore
from tasks.core.demo.hub.records import StoredFile
from tasks.core.demo.hub.repositories import RepositoryStore
from tasks.core.files.digests import digest_of, sha256_of
from tasks.core.files.durable import fsync_file, make_directory
from tasks.core.hub.publish.to_filesystem import POINTER, publish_to_filesystem
from tasks.core.keys import stage_key
from tasks.core.recipe import Publish
from tasks.core.store import RemoteStore, Staging, Store
from tests.models import tiny_llama
from tests.power.recorder import Recording, recorded
from tests.unit.hub.publish.world import Build

KEY = stage_key("merge", 1, {})


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recording, tuple[Build, Build]]:
    """One build is published, then another one."""
    directory = tmp_path_factory.mktemp("builds")
    builds = tuple(
        Build.of(name, tiny_llama(directory / name, layers=1, hidden=64, seed=seed))
        for seed, name in enumerate(("first", "second"))
    )
    disk = tmp_path_factory.mktemp("disk")
    with recorded(disk) as recording:
        for build in builds:
            target = Publish(target=str(disk / "models"))
            publish_to_filesystem(build.publication(), target)
            recording.promise(build.name)
    return recording, builds


def _reads(root: Path, promised: frozenset[str]) -> None:
    """Raise unless the pointer leads to a whole build, the promised one or a later one."""
    place = root / "models"
    if not (place / POINTER).exists():
        assert not promised, "the pointer"
        return
    pointer = json.loads((place / POINTER).read_bytes())
    manifest = (place / pointer["path"] / "manifest.json").read_bytes()
    assert hashlib.sha256(manifest).hexdigest() == pointer["manifest_sha256"]
    for name, file in json.loads(manifest)["files"].items():
        found = digest_of(place / pointer["path"] / name)
        assert (found.size_bytes, found.sha256) == (file["size_bytes"], file["sha256"]), name
    if promised:
        assert pointer["build"] in {"second", *promised}


def test_who_begins_at_the_pointer_finds_a_whole_build(published, survey):
    recording, _ = published
    assert survey(recording, _reads, at_most=400).wrong == ()


@pytest.mark.parametrize(
    "sync",
    [
        pytest.param("models/.tmp-*", id="the bytes of the pointer"),
        pytest.param("models", id="the names of pointer and builds"),
        pytest.param("models/builds", id="the names of the builds"),
        pytest.param("models/builds/*", id="names and bytes of a build"),
        pytest.param(".", id="the name of them all"),
    ],
)
def test_each_sync_of_a_publish_is_needed(published, is_needed, sync):
    assert is_needed(published[0], _reads, sync)


def test_a_file_that_others_have_copied_there_is_synced_too(published, disk, survey, is_needed):
    _, (build, _) = published
    (disk / "models").mkdir()
    with recorded(disk) as recording:
        folder = disk / "models" / "builds" / build.name
        folder.mkdir(parents=True)
        shutil.copy(build.model / "model.safetensors", folder)
        target = Publish(target=str(disk / "models"))
        publish_to_filesystem(build.publication(), target)
        recording.promise()
    assert survey(recording, _reads).wrong == ()
    assert is_needed(recording, _reads, "*/model.safetensors")


def test_a_name_that_a_killed_writer_has_not_synced_is_synced_by_the_next_one(
    disk, survey, is_needed, tmp_path
):
    def look(shared: Path, _: frozenset[str]) -> None:
        _require_files(RemoteStore.open(f"file://{shared}"))

    one = Store(tmp_path / "one")
    made = one.build(KEY, _write).artifact
    (file,) = made.manifest.files.values()
    with recorded(disk) as recording:
        make_directory(disk / "files")
        shutil.copy(made.path / "weights", disk / "files" / ".tmp-1")
        fsync_file(disk / "files" / ".tmp-1")
        (disk / "files" / ".tmp-1").rename(disk / "files" / file.sha256)
        remote = RemoteStore.open(f"file://{disk}")
        Store(tmp_path / "one", say=lambda _: None, remote=remote).push(str(KEY))
    assert survey(recording, look).wrong == ()
    assert is_needed(recording, look, "files")


def _write(staging: Staging) -> None:
    (staging.path / "weights").write_bytes(b"w" * 1000)


def _require_files(remote: RemoteStore) -> bool:
    """Return whether the artifact is at a remote store; raise unless its files are, then."""
    found = remote.find(str(KEY))
    for file in found.manifest.files.values() if found else ():
        assert remote.place.digest(f"files/{file.sha256}") == file
    return found is not None


def test_an_artifact_that_was_shared_is_there_for_the_other_machines(
    disk, survey, is_needed, tmp_path
):
    def look(shared: Path, promised: frozenset[str]) -> None:
        assert _require_files(RemoteStore.open(f"file://{shared}")) or not promised

    with recorded(disk) as recording:
        Store(
            tmp_path / "one", say=lambda _: None, remote=RemoteStore.open(f"file://{disk}")
        ).build(KEY, _write)
        recording.promise("shared")
    assert survey(recording, look).wrong == ()
    for sync in (".", str(KEY), "files", "*/.tmp-*"):
        assert is_needed(recording, look, sync), sync


def test_a_branch_of_the_embedded_hub_leads_to_a_commit_and_its_contents(disk, survey, is_needed):
    def look(root: Path, promised: frozenset[str]) -> None:
        hub, blobs = RepositoryStore(root / "hub"), BlobStore(root / "hub" / "blobs")
        found = hub.find("kawan/usaha")
        assert found is not None or not promised
        for commit in hub.history(found, "main") if found else ():
            promised -= {commit.id}
            for file in commit.files.values():
                assert sha256_of(blobs.path(file.sha256)) == file.sha256
        assert not promised, "a commit that was confirmed"

    with recorded(disk) as recording:
        hub, blobs = RepositoryStore(disk / "hub"), BlobStore(disk / "hub" / "blobs")
        hub.create("kawan/usaha", private=False, author="kawan", files={})
        content = StoredFile.regular(b"content", blobs.add(b"content"))
        commit = hub.append_commit(
            "kawan/usaha",
            "main",
            lambda files: {**files, "README.md": content},
            title="a file",
            message="",
            author="kawan",
            expected_parent=None,
        )
        recording.promise(commit.id)
    assert survey(recording, look).wrong == ()
    for sync in (".", "hub", "*/usaha", "*/commits", "*/commits/.tmp-*", "*/usaha/.tmp-*"):
        assert is_needed(recording, look, sync), sync
