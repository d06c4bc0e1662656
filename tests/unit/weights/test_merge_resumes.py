"""A merge that is killed goes on with what is whole, and its result is that of a quiet run."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tasks.core.errors import CorruptWeights
from tasks.core.files.digests import FileDigest, digest_of
from tasks.core.weights.journal import DIRECTORY
from tasks.core.weights.merge import merge_delta
from tasks.core.weights.produce import ProducedModel
from tests.prefork import preforked
from tests.unit.weights.models import base_model, delta_for, save, state_dict_of

SHARD_BYTES = 10_000  # a dozen shards of the tiny model


def _make_pair(directory: Path) -> tuple[Path, Path]:
    base = base_model(directory / "base", form="many")
    return base, delta_for(base, directory / "delta", form="bin")


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    return _make_pair(tmp_path)


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A directory with base, delta and what a merge left that was killed after 60 percent."""
    directory = tmp_path_factory.mktemp("killed")
    _merge_and_be_killed(_make_pair(directory), directory / "out")
    return directory


@pytest.fixture
def killed_pair(killed, tmp_path) -> tuple[Path, Path]:
    """The same for one test, times included, which belong to the identity of the inputs."""
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    return tmp_path / "base", tmp_path / "delta"


def _merge(pair: tuple[Path, Path], out: Path, **options: object) -> ProducedModel:
    return merge_delta(*pair, out, max_shard_bytes=SHARD_BYTES, **options)


def _merge_and_be_killed(
    pair: tuple[Path, Path],
    out: Path,
    *,
    share: float = 0.6,
    threads: int = 1,
    moment: str = "piece",
) -> None:
    words = [*pair, out, SHARD_BYTES, share, threads, moment]
    command = preforked("torch", "tests.unit.weights.killed_merge", *map(str, words))
    child = subprocess.run(command, check=False)
    assert child.returncode == -signal.SIGKILL


def _files(directory: Path) -> dict[str, FileDigest]:
    return {
        str(path.relative_to(directory)): digest_of(path)
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(("share", "threads"), [(0.0, 1), (0.3, 3), (0.7, 2), (1.0, 1)])
def test_a_killed_merge_ends_with_the_same_files(tmp_path, pair, share, threads):
    undisturbed = _merge(pair, tmp_path / "undisturbed")
    _merge_and_be_killed(pair, tmp_path / "out", share=share, threads=threads)
    assert not (tmp_path / "out" / "config.json").exists()
    resumed = _merge(pair, tmp_path / "out")
    assert resumed.files == undisturbed.files
    assert _files(tmp_path / "out") == _files(tmp_path / "undisturbed") == dict(resumed.files)


def test_finished_shards_are_kept_and_not_written_again(tmp_path, killed_pair):
    finished = [path.stem for path in (tmp_path / "out" / DIRECTORY).iterdir()]
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in finished}
    resumed = _merge(killed_pair, tmp_path / "out")
    assert resumed.shards_kept == len(finished) > 0
    assert resumed.shards_written > 0
    assert before == {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in finished}


def test_progress_goes_on_from_the_kept_shards(tmp_path, killed_pair):
    seen: list[tuple[int, int]] = []
    _merge(
        killed_pair,
        tmp_path / "out",
        threads=1,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[0][0] > 0
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


def test_a_kill_between_a_shard_and_its_journal_entry_redoes_the_shard(tmp_path, pair):
    _merge_and_be_killed(pair, tmp_path / "out", moment="journal")
    resumed = _merge(pair, tmp_path / "out")
    assert resumed.shards_kept == 0
    assert resumed.files == _merge(pair, tmp_path / "undisturbed").files


def test_a_finished_shard_that_was_changed_since_is_written_again(tmp_path, killed_pair):
    entry = next((tmp_path / "out" / DIRECTORY).iterdir())
    shard = tmp_path / "out" / entry.stem
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    _merge(killed_pair, tmp_path / "out")
    assert _files(tmp_path / "out") == _merge(killed_pair, tmp_path / "undisturbed").files


@pytest.mark.parametrize("entry", ["", "{}", "[]", '{"work": "x", "size_bytes": 1, "sha256": "y"}'])
def test_a_journal_entry_that_makes_no_sense_is_not_believed(tmp_path, pair, entry):
    undisturbed = _merge(pair, tmp_path / "undisturbed")
    out = tmp_path / "out"
    (out / DIRECTORY).mkdir(parents=True)
    for file in (name for name in undisturbed.files if name.endswith(".safetensors")):
        (out / file).write_bytes(b"rubbish")
        (out / DIRECTORY / f"{file}.json").write_text(entry)
    assert _merge(pair, out).files == undisturbed.files


def test_the_journal_of_other_inputs_is_not_believed(tmp_path, killed_pair):
    _, delta = killed_pair
    save(delta, {name: -tensor for name, tensor in state_dict_of(delta).items()}, form="bin")
    resumed = _merge(killed_pair, tmp_path / "out")
    assert resumed.shards_kept == 0
    assert resumed.files == _merge(killed_pair, tmp_path / "undisturbed").files


def test_nothing_of_other_work_stays_beside_the_weights(tmp_path, killed_pair):
    _, delta = killed_pair
    (tmp_path / "out" / "added_tokens.json").write_text("{}")
    save(delta, {name: -tensor for name, tensor in state_dict_of(delta).items()}, form="bin")
    resumed = _merge(killed_pair, tmp_path / "out")
    assert _files(tmp_path / "out") == dict(resumed.files)


def test_half_written_files_of_a_killed_attempt_do_not_stay(tmp_path, killed_pair):
    (tmp_path / "out" / ".tmp-x").write_text("{")
    resumed = _merge(killed_pair, tmp_path / "out")
    assert resumed.shards_kept > 0
    assert _files(tmp_path / "out") == dict(resumed.files)


def test_the_journal_of_another_dtype_is_not_believed(tmp_path, killed_pair):
    resumed = _merge(killed_pair, tmp_path / "out", dtype="bfloat16")
    assert resumed.shards_kept == 0
    assert resumed.files == _merge(killed_pair, tmp_path / "undisturbed", dtype="bfloat16").files


def test_shards_of_an_earlier_layout_do_not_stay(tmp_path, killed_pair):
    written = merge_delta(*killed_pair, tmp_path / "out")
    assert [name for name in written.files if "safetensors" in name] == ["model.safetensors"]
    assert _files(tmp_path / "out") == dict(written.files)


def test_a_failed_merge_keeps_its_finished_shards_for_the_next(tmp_path, pair):
    base, _ = pair
    good = state_dict_of(base)
    broken = {name: tensor.clone() for name, tensor in good.items()}
    list(broken.values())[-1].view(-1)[0] = float("nan")
    save(base, broken)
    with pytest.raises(CorruptWeights):
        _merge(pair, tmp_path / "out", threads=2)
    assert list((tmp_path / "out" / DIRECTORY).iterdir())
    save(base, good)
    assert _merge(pair, tmp_path / "out").files == _merge(pair, tmp_path / "undisturbed").files
