"""What a staging directory becomes: read-only files, and a manifest with what they cost."""

import time
from pathlib import Path

import pytest

from tasks.core.files.copies import link_or_copy
from tasks.core.keys import stage_key
from tasks.core.store import Staging, Store
from tasks.core.store.commit import seal
from tasks.core.system.measure import Cost

MERGED = stage_key("merge", 1, {})
EDITED = stage_key("edit", 1, {})


class Boom(Exception):
    pass


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def write(staging: Staging) -> None:
    (staging.path / "weights").write_bytes(b"weights")
    (staging.path / "sub").mkdir()
    (staging.path / "sub" / "config.json").write_text("{}")


def test_of_a_killed_attempt_only_what_no_artifact_shares_is_writable_again(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    merged = store.build(MERGED, write).artifact

    def killed_while_sealing(staging: Staging) -> None:
        link_or_copy(merged.path / "weights", staging.path / "weights")
        (staging.path / "config.json").write_text("{}")
        (staging.path / "config.json").chmod(0o444)
        raise Boom

    with pytest.raises(Boom):
        store.build(EDITED, killed_while_sealing)
    found: dict[str, int] = {}
    store.build(
        EDITED,
        lambda staging: found.update({path.name: mode(path) for path in staging.path.iterdir()}),
    )
    assert found == {"weights": 0o444, "config.json": 0o644}


def test_every_file_of_an_artifact_can_be_read_by_all_and_written_by_nobody(
    tmp_path: Path,
) -> None:
    artifact = Store(tmp_path).build(MERGED, write).artifact
    files = [path for path in artifact.path.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert {mode(path) for path in files} == {0o444}


def test_time_is_recorded_to_the_millisecond(tmp_path: Path) -> None:
    assert seal(Staging(tmp_path), MERGED, Cost(wall_s=1.23456), {}, {}).wall_s == 1.235


def test_time_recorded_is_that_of_the_work_without_waiting_for_other_work(tmp_path: Path) -> None:
    def work(staging: Staging) -> None:
        time.sleep(0.05)

    def wait(staging: Staging) -> None:
        time.sleep(0.05)
        staging.waited_s += 60

    store = Store(tmp_path)
    assert store.build(MERGED, work).artifact.manifest.wall_s >= 0.05
    assert store.build(EDITED, wait).artifact.manifest.wall_s == 0
