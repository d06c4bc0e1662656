"""What can go from the store: with real artifacts, run records and a deployment's link."""

import errno
import os
from pathlib import Path

import pytest

from tasks.core.errors import DiskFull, LockBusy
from tasks.core.files.copies import link_or_copy
from tasks.core.files.disk_space import require_disk_space
from tasks.core.keys import StageKey, stage_key
from tasks.core.pruning import prunable, prune_store, with_advice
from tasks.core.serving.state.directory import state_directory
from tasks.core.store import Artifact, Staging, Store
from tasks.core.store.run_record import OpenRun
from tasks.core.store.runs import RunRecords

MIB = 1 << 20


class Boom(Exception):
    pass


def build(home: Path, stage: str, size_bytes: int = MIB) -> Artifact:
    def write(staging: Staging) -> None:
        (staging.path / "weights").write_bytes(stage.encode() * (size_bytes // len(stage)))

    return Store(home).build(stage_key(stage, 1, {}), write).artifact


def fail(home: Path, stage: str) -> StageKey:
    key = stage_key(stage, 1, {})

    def write(staging: Staging) -> None:
        (staging.path / "checkpoint").write_bytes(b"c" * MIB)
        raise Boom

    with pytest.raises(Boom):
        Store(home).build(key, write)
    return key


def start(home: Path, recipe: str, *names: object, reach: int = 7) -> OpenRun:
    run = RunRecords(home).start(recipe, reach=reach)
    for name in names:
        run.add(str(name))
    return run


def bytes_on_disk(home: Path) -> int:
    """Return what the files take, each once under however many names."""
    found = [path.stat() for path in home.rglob("*") if path.is_file()]
    return sum({info.st_ino: info.st_blocks * 512 for info in found}.values())


def gone(home: Path, **options: object) -> dict[str, str]:
    return {item.path.name: item.reason for item in prunable(home, **options).items}  # type: ignore[arg-type]


def test_first_build_that_failed_keeps_downloads_and_checkpoints(tmp_path: Path) -> None:
    base, checkpoints = build(tmp_path, "download").key, fail(tmp_path, "finetune")
    start(tmp_path, "demo", base, checkpoints)
    assert prune_store(tmp_path).items == ()
    assert Store(tmp_path).find(base) is not None
    assert (tmp_path / "store" / ".staging" / str(checkpoints) / "checkpoint").exists()


def test_unfinished_work_goes_when_asked_for_and_is_named_with_its_size(tmp_path: Path) -> None:
    base, checkpoints = build(tmp_path, "download").key, fail(tmp_path, "finetune")
    start(tmp_path, "demo", base, checkpoints)
    held = {item.path.name: item for item in prunable(tmp_path).held}
    assert set(held) == {str(base), str(checkpoints)}
    assert "rebuild of demo" in held[str(base)].reason
    assert held[str(checkpoints)].kind == "unfinished work"
    assert held[str(checkpoints)].freed_bytes >= MIB
    removed = prune_store(tmp_path, unfinished=True)
    assert {item.path.name for item in removed.items} == set(held)
    assert RunRecords(tmp_path).all() == []
    assert prunable(tmp_path) == type(removed)((), ())


@pytest.mark.parametrize("transfer", ["fetched", "offered", "handed"])
def test_what_a_killed_transfer_left_goes_and_stays_with_its_artifact(
    tmp_path: Path, transfer: str
) -> None:
    made, checkpoints = build(tmp_path, "merge").key, fail(tmp_path, "finetune")
    start(tmp_path, "demo", made, checkpoints)
    staging = tmp_path / "store" / ".staging"
    for key in (made, checkpoints):
        (staging / f"{key}.{transfer}").mkdir()
    assert gone(tmp_path) == {f"{made}.{transfer}": "the artifact was made since"}
    held = {item.path.name: item.reason for item in prunable(tmp_path).held}
    assert "rebuild of demo" in held[f"{checkpoints}.{transfer}"]


def test_staging_of_which_no_run_is_known_is_unfinished_work(tmp_path: Path) -> None:
    partial = fail(tmp_path, "download")
    assert prune_store(tmp_path).items == ()
    assert [item.path.name for item in prunable(tmp_path).held] == [str(partial)]


def test_work_of_a_run_that_a_later_one_replaced_can_go(tmp_path: Path) -> None:
    checkpoints = fail(tmp_path, "finetune")
    start(tmp_path, "demo", checkpoints)
    start(tmp_path, "demo", build(tmp_path, "fuse").key).finish()
    assert set(gone(tmp_path)) == {str(checkpoints)}
    assert "superseded" in gone(tmp_path)[str(checkpoints)]
    prune_store(tmp_path)
    assert len(RunRecords(tmp_path).all()) == 1


def test_artifact_of_an_older_rebuild_says_of_which(tmp_path: Path) -> None:
    old, new = build(tmp_path, "edit").key, build(tmp_path, "fuse").key
    start(tmp_path, "demo", old).finish()
    start(tmp_path, "demo", new).finish()
    assert "rebuild of demo" in gone(tmp_path, keep_runs=1)[str(old)]
    assert str(new) not in gone(tmp_path, keep_runs=1)


def test_release_of_a_run_that_did_not_finish_is_kept(tmp_path: Path) -> None:
    model = str(build(tmp_path, "fuse").key)
    start(tmp_path, "demo", model).release(model)
    assert prunable(tmp_path, unfinished=True).items == ()


def test_served_model_is_kept_although_its_record_cannot_be_read(tmp_path: Path) -> None:
    served, other = build(tmp_path, "fuse"), build(tmp_path, "edit")
    state = state_directory(tmp_path, "demo")
    state.root.mkdir(parents=True)
    state.slot("blue").prepare(served.path)
    state.slot("blue").record.write_text("{")
    assert set(gone(tmp_path)) == {str(other.key)}


def test_damaged_record_does_not_stop_the_prune_and_protects_what_it_names(tmp_path: Path) -> None:
    named, other = build(tmp_path, "fuse").key, build(tmp_path, "edit").key
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo-1.json").write_text(f'{{"artifacts": ["{named}"')
    assert [item.path.name for item in prune_store(tmp_path).items] == [str(other)]


def test_bytes_that_something_else_shares_are_not_counted_as_freed(tmp_path: Path) -> None:
    merged = build(tmp_path, "merge")
    edit = stage_key("edit", 1, {})

    def link(staging: Staging) -> None:
        link_or_copy(merged.path / "weights", staging.path / "weights")

    Store(tmp_path).build(edit, link)
    run = start(tmp_path, "demo", edit)
    run.finish()
    (item,) = prunable(tmp_path).items
    assert item.path.name == str(merged.key)
    assert item.freed_bytes < MIB
    both = prunable(tmp_path, keep_runs=0)
    assert len(both.items) == 2
    assert MIB <= both.freed_bytes < 2 * MIB


def test_bytes_told_are_bytes_freed(tmp_path: Path) -> None:
    merged = build(tmp_path, "merge")
    weights = tmp_path / "store" / ".staging" / str(fail(tmp_path, "edit")) / "weights"
    link_or_copy(merged.path / "weights", weights)
    before = bytes_on_disk(tmp_path)
    told = prune_store(tmp_path, unfinished=True).freed_bytes
    assert told == before - bytes_on_disk(tmp_path)


def test_nothing_is_removed_while_a_run_is_on_but_a_look_is_free(tmp_path: Path) -> None:
    build(tmp_path, "merge")
    with Store(tmp_path).in_use():
        assert len(prunable(tmp_path).items) == 1
        with pytest.raises(LockBusy):
            prune_store(tmp_path)


def test_advice_on_a_full_disk_names_what_can_go_and_nothing_that_is_unfinished(
    tmp_path: Path,
) -> None:
    stale, checkpoints = build(tmp_path, "merge").key, fail(tmp_path, "finetune")
    start(tmp_path, "demo", checkpoints)
    with pytest.raises(DiskFull) as raised:
        require_disk_space(tmp_path / "store", 1 << 60)
    advised = with_advice(raised.value, tmp_path)
    assert advised.next_step is not None
    assert "store prune` frees 1 MB" in advised.next_step
    assert str(stale) in advised.next_step
    assert str(checkpoints) not in advised.next_step
    assert with_advice(advised, tmp_path) is advised


def test_advice_without_anything_to_remove_does_not_send_to_prune(tmp_path: Path) -> None:
    checkpoints = fail(tmp_path, "finetune")
    start(tmp_path, "demo", checkpoints)

    def enospc(_: Staging) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DiskFull) as raised:
        Store(tmp_path).build(stage_key("fuse", 1, {}), enospc)
    advice = with_advice(raised.value, tmp_path).next_step
    assert advice is not None
    assert "prune" not in advice
    assert "keep: released" in advice


@pytest.mark.parametrize("where", ["/proc", "s3://bucket/models"])
def test_another_full_disk_is_not_helped_by_the_store(tmp_path: Path, where: str) -> None:
    build(tmp_path, "merge")
    error = DiskFull("There is no room left at the target.", where=where)
    assert with_advice(error, tmp_path) is error


def test_staging_of_a_damaged_artifact_in_use_is_held(tmp_path: Path) -> None:
    model = build(tmp_path, "fuse")
    start(tmp_path, "demo", model.key).finish()
    (model.path / "weights").unlink()
    fail(tmp_path, "fuse")
    found = prunable(tmp_path)
    assert [item.kind for item in found.items] == ["damaged artifact"]
    assert [item.path.name for item in found.held] == [str(model.key)]


def test_machine_without_a_store_is_not_advised_about_one(tmp_path: Path) -> None:
    error = DiskFull("There is not enough space on the disk.", where=tmp_path)
    assert with_advice(error, tmp_path / "home") is error
