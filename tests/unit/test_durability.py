"""What has its name survives a power cut: its bytes, and the name, were on the disk before.

Each place that declares something finished does so by a name: an artifact, a checkpoint's marker, a
receipt, the record of a deployment.
"""

import json
from pathlib import Path

import pytest

from tasks.core.files import staged_directory, write_atomically
from tasks.core.hub.embedded.blobs import BlobStore
from tasks.core.keys import stage_key
from tasks.core.private import write_private
from tasks.core.serving.state import StateDirectory
from tasks.core.store import Staging, Store
from tasks.core.store.manifest import MANIFEST
from tasks.core.training.checkpoints import MARKER, mark_whole
from tests.deployments import deployment, put_on_record
from tests.disk import DiskCalls


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DiskCalls:
    return DiskCalls(tmp_path, monkeypatch)


@pytest.mark.parametrize("write", [write_atomically, write_private])
def test_a_file_that_is_replaced_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, calls: DiskCalls, write
) -> None:
    write(tmp_path / "record.json", b"{}")
    assert calls.naming(tmp_path / "record.json").unsynced == ()


def test_an_output_is_on_the_disk_before_it_has_its_name(tmp_path: Path, calls: DiskCalls) -> None:
    with staged_directory(tmp_path / "out", {"command": "test"}) as staging:
        (staging / "deep" / "down").mkdir(parents=True)
        (staging / "deep" / "down" / "weights").write_bytes(b"w" * 1000)
        (staging / "config.json").write_text("{}")
    named = calls.naming(tmp_path / "out")
    # The note of whose work it was goes last; an output that still has it is whole all the same.
    assert [path for path in named.unsynced if path != str(tmp_path / "out.partial")] == []


def test_an_artifact_is_on_the_disk_before_its_manifest_and_that_before_its_name(
    tmp_path: Path, calls: DiskCalls
) -> None:
    def write(staging: Staging) -> None:
        (staging.path / "code").mkdir()
        (staging.path / "code" / "model.py").write_text("model = 1")
        (staging.path / "weights").write_bytes(b"w" * 1000)

    artifact = Store(tmp_path).build(stage_key("merge", 1, {}), write).artifact
    manifest = next(c for c in calls if c.path.name == MANIFEST and c.name in ("rename", "replace"))
    assert manifest.unsynced == manifest.unsynced_beside == ()
    assert calls.naming(artifact.path).unsynced == ()


def test_a_checkpoint_is_on_the_disk_before_its_marker(tmp_path: Path, calls: DiskCalls) -> None:
    checkpoint = tmp_path / "checkpoint-7"
    (checkpoint / "global_step7").mkdir(parents=True)
    (checkpoint / "global_step7" / "states.pt").write_bytes(b"s" * 1000)
    (checkpoint / "rng.pth").write_bytes(b"r")
    mark_whole(checkpoint)
    marked = calls.naming(checkpoint / MARKER)
    assert marked.unsynced == marked.unsynced_beside == ()
    assert calls.positions(tmp_path, "fsync"), "the checkpoint's own name"
    assert json.loads((checkpoint / MARKER).read_text()) == {"step": 7}


def test_what_serves_is_on_the_disk_before_a_route_names_it(
    tmp_path: Path, calls: DiskCalls
) -> None:
    state = StateDirectory(tmp_path)
    put_on_record(state, deployment(state))
    assert calls.naming(state.slot("blue").record).unsynced == ()
    assert calls.naming(state.routes).unsynced == ()


def test_a_content_of_the_hub_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, calls: DiskCalls
) -> None:
    blobs = BlobStore(tmp_path)
    sha256 = blobs.add(b"content")
    assert calls.naming(blobs.path(sha256)).unsynced == ()
