"""What somebody else has left at a remote store stays in the directory that it is brought to."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.core.errors import CorruptArtifact
from tasks.core.files.digests import FileDigest
from tasks.core.keys import stage_key
from tasks.core.store import RemoteStore, Staging, Store
from tasks.core.store.manifest import Manifest, parse_manifest

KEY = stage_key("finetune", 1, {})
OUT = ["../x", "/etc/x", "a/../../x", "", ".", "a\\b", "a\0b"]
SHA256 = "0" * 64


def manifest(name: str, sha256: str = SHA256) -> bytes:
    made = Manifest(
        stage=KEY.stage,
        key=KEY.digest,
        created_at=datetime.now(UTC),
        params={},
        inputs={},
        files={name: FileDigest(1, sha256)},
        wall_s=0.0,
        peak_memory_bytes=0,
    )
    return made.model_dump_json().encode()


@pytest.mark.parametrize("name", [*OUT, "manifest.json"])
def test_a_manifest_that_names_a_file_outside_is_refused(name: str) -> None:
    with pytest.raises(CorruptArtifact, match="outside its artifact"):
        parse_manifest(manifest(name), where="there")


@pytest.mark.parametrize("sha256", ["../staging/x", "/etc/passwd"])
def test_a_checksum_that_is_a_path_is_refused(sha256: str) -> None:
    """A remote store's files are called by theirs."""
    with pytest.raises(CorruptArtifact):
        parse_manifest(manifest("a", sha256), where="there")


def test_an_honest_manifest_is_read() -> None:
    assert parse_manifest(manifest("a/b.safetensors"), where="there").files


@pytest.mark.parametrize("where", ["paths", "files", "sha256"])
@pytest.mark.parametrize("out", OUT)
def test_unfinished_work_with_a_name_that_leads_out_is_not_gone_on_from(
    tmp_path: Path, out: str, where: str
) -> None:
    (shared := tmp_path / "shared").mkdir()
    folder = shared / "staging" / str(KEY)
    (folder / "files").mkdir(parents=True)
    digest = {"size_bytes": 1, "sha256": out if where == "sha256" else SHA256}
    state = {
        "paths": [out if where == "paths" else "step"],
        "files": {out if where == "files" else "step/states": digest},
    }
    (folder / "state.json").write_text(json.dumps(state))
    store = Store(tmp_path / "home", remote=RemoteStore.open(f"file://{shared}"))
    store.build(KEY, _finding_nothing())
    left = {path.name for path in (tmp_path / "home").rglob("*") if path.is_file()}
    assert not left & {"x", "b"}


def _finding_nothing() -> Callable[[Staging], None]:
    def write(staging: Staging) -> None:
        with staging.handed_over(lambda: []):
            assert [path for path in staging.path.rglob("*") if path.is_file()] == []
            (staging.path / "made").write_text("anew")

    return write
