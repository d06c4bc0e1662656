import os
from pathlib import Path

import pytest

from tasks.core.system.cores import usable_cores

AFFINITY = 8


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(AFFINITY)))


def cores(tmp_path: Path, group: str, files: dict[str, str]) -> int:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(group)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return usable_cores(tmp_path / "proc", tmp_path / "cgroup")


def test_without_a_limit_every_core_of_the_affinity_counts(tmp_path: Path) -> None:
    assert cores(tmp_path, "0::/\n", {"cpu.max": "max 100000\n"}) == AFFINITY


def test_a_machine_without_control_groups_has_no_limit(tmp_path: Path) -> None:
    assert usable_cores(tmp_path, tmp_path) == AFFINITY


def test_the_quota_of_a_group_counts_and_a_part_of_a_core_is_one(tmp_path: Path) -> None:
    assert cores(tmp_path, "0::/a\n", {"a/cpu.max": "250000 100000\n"}) == 3


def test_the_least_quota_of_the_groups_around_it_counts(tmp_path: Path) -> None:
    files = {"a/cpu.max": "100000 100000\n", "a/b/cpu.max": "400000 100000\n"}
    assert cores(tmp_path, "0::/a/b\n", files) == 1


def test_a_container_that_sees_only_its_own_group_is_limited_by_it(tmp_path: Path) -> None:
    assert cores(tmp_path, "0::/docker/abc\n", {"cpu.max": "200000 100000\n"}) == 2


def test_the_quota_of_version_1_counts_and_minus_one_is_none(tmp_path: Path) -> None:
    group = "4:cpu,cpuacct:/a\n0::/\n"
    files = {"cpu/a/cpu.cfs_quota_us": "50000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}
    assert cores(tmp_path, group, files) == 1


def test_no_quota_in_version_1_is_no_limit(tmp_path: Path) -> None:
    files = {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}
    assert cores(tmp_path, "4:cpu,cpuacct:/a\n", files) == AFFINITY
