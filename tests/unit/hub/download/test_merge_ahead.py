"""Base and delta are added while they are fetched; the result is that of one after the other."""

import shutil
import signal
import subprocess
import threading
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from tasks.core.errors import CorruptWeights, DiskFull, DownloadCorrupt, HubError
from tasks.core.files.digests import FileDigest
from tasks.core.hub.download import merge_ahead as ahead
from tasks.core.hub.download.artifact import download_source
from tasks.core.hub.download.incoming import IncomingSource
from tasks.core.hub.download.outline import outline
from tasks.core.hub.download.pinned import PinnedSource
from tasks.core.recipe import Source
from tasks.core.store import Store
from tasks.core.store.shelf import Artifact
from tasks.core.system.threads import pause
from tasks.core.weights.journal import DIRECTORY
from tasks.core.weights.merge import merge_delta
from tests.hub_faults import Faults, Slow
from tests.prefork import preforked
from tests.unit.hub.conftest import OWNER
from tests.unit.hub.download.ahead_world import BASE, DELTA, SHARD_BYTES, World
from tests.unit.hub.holding import Whole, publish_pair
from tests.unit.weights.models import Form, contents

LAST = "00004-of-00004"
ALL: tuple[tuple[Form, Form], ...] = (
    ("many", "many"),
    ("many", "bins"),
    ("one", "bin"),
    ("bin", "one"),
)


@pytest.fixture(autouse=True)
def _logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", OWNER)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "home")


_EXPECTED: dict[str, dict[str, FileDigest]] = {}


def expected(pair: tuple[Path, Path], out: Path) -> dict[str, FileDigest]:
    """Return what the merge proper makes of this pair, or made of the very same files."""
    key = repr([contents(directory) for directory in pair])
    if key not in _EXPECTED:
        _EXPECTED[key] = dict(merge_delta(*pair, out, max_shard_bytes=SHARD_BYTES).files)
    return _EXPECTED[key]


def held(faults: Faults, path: str, after: int = 0) -> Whole:
    fault = Whole(held_after=after)
    faults.add(fault, path, times=99)
    return fault


@pytest.mark.parametrize("forms", ALL, ids=str)
def test_what_is_merged_ahead_is_what_is_merged_at_the_end(
    owner: HfApi, tmp_path: Path, world: World, forms: tuple[Form, Form]
) -> None:
    pair = publish_pair(owner, tmp_path, *forms)
    written = world.run()
    assert dict(written.files) == expected(pair, tmp_path / "expected")
    assert written.shards_kept == len(world.kept)
    assert {path.name for path in world.out.iterdir()} == set(written.files)


def hold_until_three_shards(world: World, faults: Faults, file: str) -> None:
    """Let the last byte of a file come once three shards are recorded."""
    last = held(faults, file)

    def release(world: World) -> None:
        if world.recorded >= 3:
            last.released.set()

    world.at_each_wait = release


def test_shards_are_finished_before_the_last_file_is_fetched(
    owner: HfApi, tmp_path: Path, world: World, faults: Faults
) -> None:
    pair = publish_pair(owner, tmp_path, "many", "many")
    hold_until_three_shards(world, faults, f"base/resolve.*{LAST}")
    written = world.run()
    assert world.recorded_before_the_end >= 3
    assert written.shards_written == 0
    assert dict(written.files) == expected(pair, tmp_path / "expected")


@pytest.mark.parametrize("delta_form", ["bin", "one"])
def test_models_of_one_file_are_merged_up_to_the_byte_that_is_there(
    owner: HfApi, tmp_path: Path, world: World, faults: Faults, delta_form: Form
) -> None:
    pair = publish_pair(owner, tmp_path, "one", delta_form)
    holds = [
        held(faults, f"{side}/resolve.*(safetensors|bin)", 5_000_000) for side in ("base", "delta")
    ]

    def release(world: World) -> None:
        if world.done > 3_000_000:
            for each in holds:
                each.released.set()

    world.at_each_wait = release
    written = world.run()
    assert world.written_before_the_end > 3_000_000
    assert world.recorded_before_the_end == 0, "nothing counts before it is checked"
    assert written.shards_written == 0
    assert dict(written.files) == expected(pair, tmp_path / "expected")


def test_what_was_made_of_wrong_bytes_does_not_count(
    owner: HfApi, tmp_path: Path, world: World, faults: Faults
) -> None:
    pair = publish_pair(owner, tmp_path, "one", "one")
    wrong = Whole(held_after=5_000_000, wrong_at=2_000_000)
    faults.add(wrong, "delta/resolve.*safetensors", times=99)

    def release(world: World) -> None:
        if world.done > 3_000_000:
            wrong.released.set()

    world.at_each_wait = release
    written = world.run()
    assert world.written_before_the_end > 3_000_000
    assert written.shards_written > 0
    assert dict(written.files) == expected(pair, tmp_path / "expected")


def test_a_file_that_stays_wrong_fails_the_download_and_nothing_of_it_is_recorded(
    owner: HfApi, tmp_path: Path, world: World, faults: Faults
) -> None:
    publish_pair(owner, tmp_path, "many", "many")
    faults.add(Whole(wrong_at=1_000_000, wrong_times=2), f"delta/resolve.*{LAST}", times=99)
    with pytest.raises(DownloadCorrupt):
        world.run()
    before = set(world.out.glob(f"{DIRECTORY}/*.json"))
    written = world.run()
    assert written.shards_kept >= len(before)
    assert dict(written.files) == expected((tmp_path / "base", tmp_path / "delta"), tmp_path / "e")


def test_a_hub_that_sends_no_ranges_is_merged_at_the_end(
    owner: HfApi, tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = publish_pair(owner, tmp_path, "many", "many")

    def refuse(*_: object) -> None:
        raise HubError("The Hub sends whole files only.")

    monkeypatch.setattr(ahead, "outline", refuse)
    written = world.run()
    assert not world.kept
    assert dict(written.files) == expected(pair, tmp_path / "expected")


def test_a_checkpoint_with_a_gap_that_no_header_can_bridge_is_merged_at_the_end(
    owner: HfApi, tmp_path: Path, world: World, faults: Faults
) -> None:
    pair = publish_pair(owner, tmp_path, "many", "bin")
    weights = pair[1] / "pytorch_model.bin"
    leave_gaps(weights)
    owner.upload_file(repo_id=DELTA, path_in_repo=weights.name, path_or_fileobj=weights)
    # A file that has arrived needs no bridge.
    world.at_its_end = held(faults, f"delta/resolve.*{weights.name}").released.set
    written = world.run()
    assert not world.kept
    assert dict(written.files) == expected(pair, tmp_path / "expected")


def leave_gaps(path: Path) -> None:
    """Write a checkpoint anew with more than 64 KiB of nothing behind each of its records."""
    with zipfile.ZipFile(path) as archive:
        records = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records:
            if name.endswith(".format_version"):  # says that there are no gaps
                continue
            record = zipfile.ZipInfo(name)
            record.extra = bytes(-(archive.start_dir + 30 + len(name)) % 64)
            archive.writestr(record, content)
            archive.start_dir += 64 * 1100  # where the next one is written


@pytest.mark.parametrize(
    ("at", "new"),
    [(6, b"\xff\xff"), (46, b"\xff")],
    ids=["a version of the future", "a name that is not UTF-8"],
)
def test_a_checkpoint_whose_directory_is_odd_is_left_to_the_merge_proper(
    owner: HfApi, tmp_path: Path, world: World, at: int, new: bytes
) -> None:
    pair = publish_pair(owner, tmp_path, "many", "bin")
    weights = pair[1] / "pytorch_model.bin"
    content = bytearray(weights.read_bytes())
    entry = content.rindex(b"PK\x01\x02")  # of the directory at the end of a zip
    content[entry + at : entry + at + len(new)] = new
    weights.write_bytes(content)
    owner.upload_file(repo_id=DELTA, path_in_repo=weights.name, path_or_fileobj=weights)
    with pytest.raises(CorruptWeights):
        world.run()


def test_a_header_that_is_not_that_of_the_file_is_not_believed(
    owner: HfApi, tmp_path: Path, world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = publish_pair(owner, tmp_path, "one", "one")
    rest = held(faults, "base/resolve.*safetensors", 5_000_000)

    def exchanged(incoming: IncomingSource, into: Path) -> Path:
        """Say of two tensors of one shape that each lies where the other does."""
        weights = outline(incoming, into) / "model.safetensors"
        if incoming.pinned.source.repo == BASE:
            ours, theirs = (b"layers.%d.mlp.gate_proj" % layer for layer in (0, 1))
            said = weights.read_bytes().replace(ours, b"<ours>").replace(theirs, ours)
            weights.write_bytes(said.replace(b"<ours>", theirs))
        return weights.parent

    def release(world: World) -> None:
        if world.done > 3_000_000:
            rest.released.set()

    monkeypatch.setattr(ahead, "outline", exchanged)
    world.at_each_wait = release
    written = world.run()
    assert world.written_before_the_end > 3_000_000
    assert not world.kept
    assert dict(written.files) == expected(pair, tmp_path / "expected")


def test_a_disk_too_small_for_both_and_the_result_is_told_before_they_are_there(
    owner: HfApi, tmp_path: Path, world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_pair(owner, tmp_path, "many", "many")
    faults.add(Slow(0.05), f"resolve.*{LAST}", times=99)
    usage = shutil.disk_usage(tmp_path)

    def shrinking(_: object) -> object:
        taken = 0
        for path in world.home.rglob("*.safetensors*"):
            with suppress(FileNotFoundError):  # a finished download gets its name meanwhile
                taken += path.stat().st_size
        return usage._replace(free=18_000_000 - taken)  # 7 MB for each of the three

    monkeypatch.setattr(shutil, "disk_usage", shrinking)
    with pytest.raises(DiskFull, match="not enough space"):
        world.run()
    assert not list(world.out.glob("model-*"))


def test_a_source_that_is_here_already_is_read_where_it_lies(
    owner: HfApi, tmp_path: Path, world: World, faults: Faults
) -> None:
    pair = publish_pair(owner, tmp_path, "many", "many")
    store = Store(world.home)
    download_source(PinnedSource(Source(repo=BASE), store), store)
    hold_until_three_shards(world, faults, f"delta/resolve.*{LAST}")
    written = world.run()
    assert world.recorded_before_the_end >= 3
    assert dict(written.files) == expected(pair, tmp_path / "expected")


def test_a_source_that_has_moved_to_the_store_is_read_there_before_that_is_said(
    owner: HfApi, tmp_path: Path, world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while it is pushed to a remote store."""
    pair = publish_pair(owner, tmp_path, "many", "many")
    hold_until_three_shards(world, faults, f"base/resolve.*{LAST}")
    pushed, release = threading.Event(), world.at_each_wait
    settle = IncomingSource.settle

    def settle_once_pushed(incoming: IncomingSource, artifact: Artifact) -> None:
        pushed.wait(60)
        settle(incoming, artifact)

    def outline_of_what_has_moved(incoming: IncomingSource, into: Path) -> Path:
        while not list(world.home.glob("store/download-*/model.safetensors.index.json")):
            pause(0.01)
        return outline(incoming, into)

    def push(world: World) -> None:
        release(world)
        if world.recorded >= 3:
            pushed.set()

    monkeypatch.setattr(IncomingSource, "settle", settle_once_pushed)
    monkeypatch.setattr(ahead, "outline", outline_of_what_has_moved)
    world.at_each_wait = push
    written = world.run()
    assert world.recorded_before_the_end >= 3
    assert dict(written.files) == expected(pair, tmp_path / "expected")


def test_a_killed_run_keeps_what_is_finished_of_both_downloads_and_the_merge(
    owner: HfApi, tmp_path: Path, world: World, faults: Faults
) -> None:
    pair = publish_pair(owner, tmp_path, "many", "many")
    last = held(faults, f"delta/resolve.*{LAST}")
    command = preforked("torch", "tests.unit.hub.download.killed_merge_ahead", str(world.home))
    child = subprocess.run(command, check=False)
    assert child.returncode == -signal.SIGKILL
    last.released.set()
    finished = [path.stem for path in (world.out / DIRECTORY).iterdir()]
    before = {name: (world.out / name).stat().st_mtime_ns for name in finished}
    whole = [path.name for path in world.home.glob("store/.staging/*/model-*.safetensors")]
    asked = len(faults.served)
    written = world.run()
    assert len(finished) >= 3
    assert before == {name: (world.out / name).stat().st_mtime_ns for name in finished}
    again = [one for one in faults.served[asked:] if one.range is None]
    assert whole
    assert not [
        one for one in again if "base/resolve" in one.path and one.path.endswith(tuple(whole))
    ]
    assert dict(written.files) == expected(pair, tmp_path / "expected")
