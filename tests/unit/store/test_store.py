import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from tasks.core.errors import CorruptArtifact, DiskFull, LockBusy
from tasks.core.files.copies import link_or_copy
from tasks.core.files.digests import FileDigest, digest_of
from tasks.core.files.locks import holders
from tasks.core.keys import StageKey, stage_key
from tasks.core.store import Staging, Store
from tasks.core.store.checks import wrong_content
from tasks.core.store.manifest import manifest_of


class Boom(Exception):
    pass


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def key() -> StageKey:
    return stage_key("merge", 1, {"dtype": "float16"})


def two_files(staging: Staging) -> None:
    (staging.path / "a.bin").write_bytes(b"weights")
    (staging.path / "sub").mkdir(exist_ok=True)
    (staging.path / "sub" / "b.json").write_text("{}")


def fail(_: Staging) -> None:
    raise AssertionError("write was called although the artifact is there")


def test_crash_while_writing_leaves_no_artifact(store: Store, key: StageKey) -> None:
    def half_a_shard_then_boom(staging: Staging) -> None:
        (staging.path / "a.bin").write_bytes(b"wei")
        raise Boom

    with pytest.raises(Boom):
        store.build(key, half_a_shard_then_boom)
    assert store.find(key) is None
    assert list(store.artifacts()) == []


def test_next_attempt_finds_what_the_crashed_one_left(store: Store, key: StageKey) -> None:
    def boom(staging: Staging) -> None:
        (staging.path / "shard-1").write_bytes(b"done")
        raise Boom

    with pytest.raises(Boom):
        store.build(key, boom)

    def go_on(staging: Staging) -> None:
        assert (staging.path / "shard-1").read_bytes() == b"done"
        (staging.path / "shard-2").write_bytes(b"new")

    built = store.build(key, go_on)
    assert sorted(built.artifact.manifest.files) == ["shard-1", "shard-2"]


def test_full_disk_is_told_as_such(store: Store, key: StageKey) -> None:
    def enospc(_: Staging) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DiskFull, match="what is finished stays finished"):
        store.build(key, enospc)
    assert store.find(key) is None


def test_other_os_errors_are_not_hidden(store: Store, key: StageKey) -> None:
    def eio(_: Staging) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match="Input/output"):
        store.build(key, eio)


def test_built_twice_is_written_once(store: Store, key: StageKey) -> None:
    first = store.build(key, two_files)
    second = store.build(key, fail)
    assert (first.cached, second.cached) == (False, True)
    assert second.artifact.manifest == first.artifact.manifest


def test_manifest_holds_size_and_checksum_of_every_file(store: Store, key: StageKey) -> None:
    artifact = store.build(key, two_files).artifact
    assert artifact.manifest.files == {
        name: digest_of(artifact.path / name) for name in ("a.bin", "sub/b.json")
    }


def test_digests_of_the_writer_are_taken_over(store: Store, key: StageKey) -> None:
    told = FileDigest(7, "f" * 64)

    def write(staging: Staging) -> None:
        two_files(staging)
        staging.record({"a.bin": told})

    assert store.build(key, write).artifact.manifest.files["a.bin"] == told


def test_a_told_digest_of_another_size_is_not_believed(store: Store, key: StageKey) -> None:
    def write(staging: Staging) -> None:
        two_files(staging)
        staging.record({"a.bin": FileDigest(3, "f" * 64)})

    artifact = store.build(key, write).artifact
    assert artifact.manifest.files["a.bin"] == digest_of(artifact.path / "a.bin")


def test_truncated_file_is_found_on_the_next_hit(store: Store, key: StageKey) -> None:
    artifact = store.build(key, two_files).artifact
    (artifact.path / "a.bin").chmod(0o644)
    (artifact.path / "a.bin").write_bytes(b"we")
    with pytest.raises(CorruptArtifact, match="2 bytes instead of 7"):
        store.find(key)


def test_damaged_artifact_is_set_aside_and_made_again(store: Store, key: StageKey) -> None:
    artifact = store.build(key, two_files).artifact
    for times in (1, 2):
        (artifact.path / "a.bin").unlink()
        built = store.build(key, two_files)
        assert not built.cached
        assert store.find(key) is not None
        assert len(list((store.root / ".corrupt").iterdir())) == times


def test_directory_without_manifest_does_not_exist(store: Store, key: StageKey) -> None:
    store.path_of(key).mkdir(parents=True)
    (store.path_of(key) / "a.bin").write_bytes(b"something")
    assert store.find(key) is None
    assert not store.build(key, two_files).cached


def test_manifest_that_is_not_json_is_corrupt(store: Store, key: StageKey) -> None:
    artifact = store.build(key, two_files).artifact
    (artifact.path / "manifest.json").chmod(0o644)
    (artifact.path / "manifest.json").write_text('{"format": 1,')
    with pytest.raises(CorruptArtifact, match="cannot be read"):
        store.find(key)


def test_manifest_that_is_no_file_is_corrupt(store: Store, key: StageKey) -> None:
    artifact = store.build(key, two_files).artifact
    (artifact.path / "manifest.json").unlink()
    (artifact.path / "manifest.json").mkdir()
    with pytest.raises(CorruptArtifact, match="cannot be read"):
        store.find(key)


def test_manifest_that_could_be_read_later_condemns_no_artifact(
    store: Store, key: StageKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.build(key, two_files)

    def fails(_: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(OSError, match="Too many open files"):
        store.find(key)


def test_artifact_of_another_key_is_corrupt_under_this_one(store: Store, key: StageKey) -> None:
    other = stage_key("merge", 1, {"dtype": "float32"})
    store.build(other, two_files).artifact.path.rename(store.path_of(key))
    with pytest.raises(CorruptArtifact, match="another key"):
        store.find(key)


def test_manifest_that_points_outside_is_corrupt(store: Store, key: StageKey) -> None:
    artifact = store.build(key, two_files).artifact
    path = artifact.path / "manifest.json"
    path.chmod(0o644)
    path.write_text(path.read_text().replace('"a.bin"', '"../a.bin"'))
    with pytest.raises(CorruptArtifact, match="outside"):
        store.find(key)


def test_verify_finds_a_flipped_bit_and_a_foreign_file(store: Store, key: StageKey) -> None:
    artifact = store.build(key, two_files).artifact
    assert store.verify() == {str(key): []}
    (artifact.path / "a.bin").chmod(0o644)
    (artifact.path / "a.bin").write_bytes(b"weighty"[:7])
    (artifact.path / "extra").write_text("x")
    assert store.verify()[str(key)] == [
        "a.bin has other bytes than when it was made",
        "extra was not there when it was made",
    ]


def test_verify_tells_a_file_of_a_failing_disk_from_one_that_this_process_may_not_read(
    store: Store, key: StageKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.build(key, lambda staging: (staging.path / "a.bin").touch())
    number = errno.EIO

    def fails(_: Path) -> FileDigest:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tasks.core.store.checks.digest_of", fails)
    assert store.verify() == {str(key): ["a.bin cannot be read: Input/output error"]}
    number = errno.EACCES
    with pytest.raises(PermissionError):
        store.verify()


def test_verify_finds_a_linked_directory(store: Store, key: StageKey, tmp_path: Path) -> None:
    """A loader would follow it: transformers does so for custom_generate."""
    artifact = store.build(key, two_files).artifact
    (artifact.path / "custom_generate").symlink_to(tmp_path)
    assert store.verify()[str(key)] == ["custom_generate was not there when it was made"]


def test_artifact_whose_bytes_were_changed_is_set_aside_before_it_is_compared_with(
    store: Store, key: StageKey
) -> None:
    artifact = store.build(key, two_files).artifact
    store.require_content(artifact)
    (artifact.path / "a.bin").chmod(0o644)
    (artifact.path / "a.bin").write_bytes(b"weighty"[:7])
    with pytest.raises(CorruptArtifact, match="other bytes"):
        store.require_content(artifact)
    assert store.named(str(key)) is None


@pytest.mark.parametrize("meanwhile", ["made anew", "taken away"])
def test_what_has_the_name_of_a_damaged_artifact_by_now_is_not_set_aside(
    store: Store, key: StageKey, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, meanwhile: str
) -> None:
    artifact = store.build(key, two_files).artifact
    shutil.copytree(artifact.path, tmp_path / "whole")
    (artifact.path / "a.bin").chmod(0o644)
    (artifact.path / "a.bin").write_bytes(b"weighty"[:7])

    def then_replaced(directory: Path) -> list[str]:
        problems = list(wrong_content(directory))
        if problems:
            shutil.rmtree(directory)
            if meanwhile == "made anew":
                shutil.copytree(tmp_path / "whole", directory)
        return problems

    monkeypatch.setattr("tasks.core.store.upkeep.wrong_content", then_replaced)
    with pytest.raises(CorruptArtifact, match="rebuilt or removed"):
        store.require_content(artifact)
    assert (store.find(key) is not None) is (meanwhile == "made anew")


def test_artifact_is_not_freed_while_it_is_read_through(
    store: Store, key: StageKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = store.build(key, two_files).artifact
    freed: list[bool] = []

    def somebody_frees(directory: Path) -> list[str]:
        freed.append(store.free(str(key)))
        return list(wrong_content(directory))

    monkeypatch.setattr("tasks.core.store.upkeep.wrong_content", somebody_frees)
    store.require_content(artifact)
    assert freed == [False]


def test_artifact_is_read_through_while_others_read_it(
    store: Store, key: StageKey, tmp_path: Path
) -> None:
    artifact = store.build(key, two_files).artifact
    with Store(tmp_path).present([str(key)]):
        store.require_content(artifact)


def test_what_is_not_there_is_not_freed(store: Store, key: StageKey) -> None:
    assert store.free(str(key)) is False
    assert store.freed(str(key)) is None


def test_equal_bytes_have_equal_digests_under_different_keys(store: Store) -> None:
    one = store.build(stage_key("merge", 1, {"dtype": "float16"}), two_files).artifact
    two = store.build(stage_key("merge", 1, {"dtype": "float32"}), two_files).artifact
    assert one.key != two.key
    assert one.digest == two.digest


def test_removing_one_artifact_keeps_the_files_it_shared(store: Store, key: StageKey) -> None:
    merged = store.build(key, two_files).artifact
    edit_key = stage_key("edit", 1, {}, {"model": merged.digest})

    def link(staging: Staging) -> None:
        assert link_or_copy(merged.path / "a.bin", staging.path / "a.bin") == "hardlink"

    edited = store.build(edit_key, link).artifact
    store.remove([merged.path])
    assert (edited.path / "a.bin").read_bytes() == b"weights"
    assert store.verify() == {str(edit_key): []}


def test_removal_goes_on_where_a_killed_one_left_files(store: Store, key: StageKey) -> None:
    artifact = store.build(key, two_files).artifact
    left = store.root / ".trash" / str(key)
    left.mkdir(parents=True)
    (left / "shard").write_bytes(b"half removed")
    store.remove([artifact.path, left])
    assert store.contents()["trash"] == []
    assert store.find(key) is None


def test_nothing_is_removed_while_a_run_is_on(store: Store) -> None:
    with store.in_use(), pytest.raises(LockBusy, match="within 0 s"), store.unused():
        pytest.fail("the store counts as unused")


def test_two_runs_are_on_at_once(store: Store, tmp_path: Path) -> None:
    with store.in_use(), Store(tmp_path).in_use():
        assert len(holders(store.root / ".locks" / "in-use")) == 2


def test_damaged_artifact_that_is_asked_for_by_name_is_set_aside_and_counts_as_none(
    store: Store, key: StageKey, caplog: pytest.LogCaptureFixture
) -> None:
    artifact = store.build(key, two_files).artifact
    assert store.named(str(key)) == artifact
    (artifact.path / "a.bin").unlink()
    assert store.named(str(key)) is None
    assert "a.bin is missing" in caplog.text
    assert store.named(str(key)) is None
    assert len(store.contents()["corrupt"]) == 1


def test_two_builders_at_once_write_once(store: Store, key: StageKey) -> None:
    started, calls = threading.Barrier(2), []

    def write(staging: Staging) -> None:
        calls.append(1)
        two_files(staging)

    def run() -> None:
        started.wait()
        store.build(key, write)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]


def test_finished_artifact_is_found_while_another_process_reads_it(
    store: Store, key: StageKey, tmp_path: Path
) -> None:
    made = store.build(key, two_files).artifact
    with Store(tmp_path).present([str(key)]):
        found = store.build(key, fail, wait_s=0.0)
    assert (found.artifact.digest, found.cached) == (made.digest, True)


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from tasks.core.keys import stage_key
    from tasks.core import store as s

    def write(staging):
        (staging.path / "a.bin").write_bytes(b"weights")
        if sys.argv[2] == "writing":
            os.kill(os.getpid(), signal.SIGKILL)

    whole_renames = {"sealing": 0, "naming": 1}.get(sys.argv[2], 9)
    rename = Path.rename

    def rename_or_die(path, target):
        global whole_renames
        whole_renames -= 1
        return rename(path, target) if whole_renames >= 0 else os.kill(os.getpid(), signal.SIGKILL)

    Path.rename = rename_or_die
    s.Store(Path(sys.argv[1])).build(stage_key("merge", 1, {}), write)
"""


@pytest.mark.parametrize("moment", ["writing", "sealing", "naming"])
def test_killed_process_leaves_no_artifact_and_no_lock(tmp_path: Path, moment: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), moment], check=False
    )
    assert child.returncode == -signal.SIGKILL
    store, key = Store(tmp_path), stage_key("merge", 1, {})
    assert store.find(key) is None
    built = store.build(key, two_files, wait_s=1)
    assert sorted(built.artifact.manifest.files) == ["a.bin", "sub/b.json"]


def test_what_publishing_or_another_program_calls_manifest_is_no_artifacts(
    store: Store, key: StageKey, tmp_path: Path
) -> None:
    """A published directory is deployed and fine-tuned like any other."""
    (tmp_path / "manifest.json").write_text('{"build": "b", "files": {"config.json": {}}}')
    assert manifest_of(tmp_path) is None
    built = store.build(key, two_files)
    assert manifest_of(built.artifact.path) == built.artifact.manifest
