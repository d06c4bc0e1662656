"""A model that is being written, after a power cut: a shard that is claimed is there."""

import json
from pathlib import Path

import pytest

from tasks.core.files.digests import FileDigest, digest_of
from tasks.core.files.durable import fsync_file
from tasks.core.weights.journal import DIRECTORY, ShardJournal
from tasks.core.weights.layout import INDEX_FILE
from tasks.core.weights.merge import merge_delta
from tasks.core.weights.produce import ProducedModel
from tests.power.recorder import Recording, recorded
from tests.unit.weights.models import base_model, delta_for

_SHARD_BYTES = 30_000
Merged = tuple[Recording, ProducedModel]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("pair")
    base = base_model(directory / "base")
    (base / "code").mkdir()
    (base / "code" / "own.py").write_text("own = 1\n")
    return base, delta_for(base, directory / "delta")


@pytest.fixture(scope="module")
def merged(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Merged:
    """A merge by several threads, from an empty disk on."""
    disk = tmp_path_factory.mktemp("disk")
    with recorded(disk) as recording:
        written = merge_delta(*pair, disk / "out", max_shard_bytes=_SHARD_BYTES, threads=2)
        recording.promise("merged")
    assert written.shards_written > 2
    assert "code/own.py" in written.files
    return recording, written


def _claims(out: Path) -> dict[str, FileDigest]:
    """Return what the journal says, torn entries left out."""
    found = {}
    for entry in out.glob(f"{DIRECTORY}/*.json"):
        try:
            fields = json.loads(entry.read_bytes())
        except ValueError:
            continue
        found[entry.stem] = FileDigest(fields["size_bytes"], fields["sha256"])
    return found


def _look(root: Path, promised: frozenset[str]) -> None:
    """Raise when the journal claims a shard whose bytes are not there."""
    for shard, content in _claims(root / "out").items():
        assert (root / "out" / shard).exists(), f"{shard} is claimed and not there"
        assert digest_of(root / "out" / shard) == content, f"{shard} has other bytes than claimed"


def _require_whole(out: Path, written: ProducedModel) -> None:
    assert {name: digest_of(out / name) for name in written.files} == written.files


def test_a_shard_that_the_journal_claims_is_there_and_a_model_that_was_returned(merged, survey):
    recording, written = merged

    def look(root: Path, promised: frozenset[str]) -> None:
        _look(root, promised)
        if promised:
            _require_whole(root / "out", written)

    assert survey(recording, look).wrong == ()


def test_the_journal_is_not_forgotten_before_all_is_on_the_disk(merged, survey, is_needed):
    """Without it, nothing can tell whether what is there is the model."""
    recording, written = merged

    def look(root: Path, promised: frozenset[str]) -> None:
        is_begun = (root / "out" / INDEX_FILE).exists()  # the index follows the last shard
        if is_begun and len(_claims(root / "out")) < written.shards_written:
            _require_whole(root / "out", written)

    assert survey(recording, look).wrong == ()
    for sync in ("out/code", "out/code/own.py"):
        assert is_needed(recording, look, sync), sync


@pytest.mark.parametrize(
    "sync",
    [
        pytest.param("out/model-*", id="the bytes of the shards"),
        pytest.param("out", id="the names of the shards"),
    ],
)
def test_each_sync_before_the_journal_is_needed(merged, is_needed, sync):
    assert is_needed(merged[0], _look, sync)


def test_a_merge_that_goes_on_after_a_cut_ends_with_the_same_bytes(pair, merged, survey):
    recording, written = merged

    def goes_on(root: Path, promised: frozenset[str]) -> None:
        again = merge_delta(*pair, root / "out", max_shard_bytes=_SHARD_BYTES, threads=2)
        assert again.files == written.files
        _require_whole(root / "out", written)

    assert survey(recording, goes_on, at_most=25).wrong == ()


def test_a_shard_that_was_recorded_is_not_written_again(disk, survey, is_needed):
    def look(root: Path, promised: frozenset[str]) -> None:
        for shard in promised:
            assert ShardJournal(root, "work").finished(shard) is not None

    with recorded(disk) as recording:
        journal = ShardJournal(disk, "work")
        for shard in ("one", "two"):
            (disk / shard).write_text(shard * 100)
            fsync_file(disk / shard)
            journal.record(shard, digest_of(disk / shard))
            recording.promise(*sorted({"one", shard}))
    assert survey(recording, look).wrong == ()
    for sync in (".", DIRECTORY, f"{DIRECTORY}/.tmp-*"):
        assert is_needed(recording, look, sync), sync
