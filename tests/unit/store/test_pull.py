"""Artifacts that are asked for by name, here and at the remote store."""

from pathlib import Path

import pytest

from tasks.core.keys import stage_key
from tasks.core.store import RemoteStore, Staging, Store
from tests.unit.store.conftest import Machine

KEY = stage_key("merge", 1, {})


def write(staging: Staging) -> None:
    (staging.path / "weights").write_bytes(b"weights")


def test_what_is_pulled_by_name_is_fetched_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = machine("first").build(KEY, write)
    second = machine("second")
    fetched = second.pull(str(KEY))
    assert fetched is not None
    assert fetched.digest == built.artifact.digest
    monkeypatch.delattr(RemoteStore, "find")
    assert second.pull(str(KEY)) == fetched


def test_what_is_nowhere_cannot_be_pulled(machine: Machine) -> None:
    assert machine("first").pull(str(KEY)) is None


def test_only_what_the_remote_store_has_counts_as_shared(machine: Machine, tmp_path: Path) -> None:
    alone = Store(tmp_path / "first")
    artifact = alone.build(KEY, write).artifact
    first = machine("first")
    assert first.is_shared(artifact) is False
    first.push(str(KEY))
    assert first.is_shared(artifact) is True
    assert alone.is_shared(artifact) is None
