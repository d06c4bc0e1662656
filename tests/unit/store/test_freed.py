"""What is left of a freed artifact: its note, with the manifest and the small files."""

import os
import shutil
from pathlib import Path

import pytest

from tasks.core.errors import CorruptArtifact
from tasks.core.keys import stage_key
from tasks.core.store import Artifact, Staging, Store
from tasks.core.store.manifest import (
    KEPT_WHEN_FREED_BYTES,
    freed_place,
    kept_file,
    require_manifest,
)

KEY = stage_key("merge", 1, {})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def made(store: Store) -> Artifact:
    return store.build(KEY, write).artifact


def write(staging: Staging) -> None:
    (staging.path / "weights").write_bytes(b"w" * (KEPT_WHEN_FREED_BYTES + 1))
    (staging.path / "config.json").write_text('{"hidden_act": "gelu"}')


def test_a_directory_that_was_never_an_artifact_has_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(CorruptArtifact, match="has no manifest"):
        require_manifest(tmp_path)


def test_manifest_and_small_files_are_found_before_and_after(store: Store, made: Artifact) -> None:
    assert require_manifest(made.path) == made.manifest
    assert kept_file(made.path, "config.json") == made.path / "config.json"
    assert kept_file(made.path, "weights") == made.path / "weights"
    store.free(str(KEY))
    assert require_manifest(made.path) == made.manifest
    assert kept_file(made.path, "config.json") == freed_place(made.path) / "config.json"
    assert kept_file(made.path, "weights") is None


def test_what_was_freed_is_listed_until_it_is_here_again(store: Store, made: Artifact) -> None:
    assert list(store.freed_artifacts()) == []
    store.free(str(KEY))
    assert list(store.freed_artifacts()) == [Artifact(made.path, made.manifest, freed=True)]
    store.build(KEY, write)
    assert list(store.freed_artifacts()) == []


def test_a_note_that_a_kill_left_beside_the_artifact_is_not_listed(
    store: Store, made: Artifact
) -> None:
    shutil.copytree(made.path, freed_place(made.path))
    assert list(store.freed_artifacts()) == []


def test_a_note_that_cannot_be_read_is_not_listed(store: Store, made: Artifact) -> None:
    store.free(str(KEY))
    note = freed_place(made.path) / "manifest.json"
    note.unlink()
    note.write_text("{")
    assert list(store.freed_artifacts()) == []


def test_a_note_that_can_only_be_removed_in_part_counts_for_nothing(
    store: Store, made: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.free(str(KEY))

    def refused(*_: object, **__: object) -> None:
        raise PermissionError("The directory is in use.")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", refused)
        assert not store.build(KEY, write).cached
    assert freed_place(made.path).exists()
    assert store.freed(str(KEY)) is None
