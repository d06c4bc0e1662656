"""Devices between real processes; the GPUs are a list, for there may be none here."""

from pathlib import Path

import pytest

from tasks.core.errors import DeviceBusy, LockBusy, UsageError
from tasks.core.files.locks import holders
from tasks.core.keys import stage_key
from tasks.core.machine import devices
from tasks.core.machine.activity import running_work
from tasks.core.machine.devices import alone_on, builds, require_gpu_memory, served_from, serving
from tasks.core.machine.hardware import GpuUse
from tasks.core.store import Staging, Store
from tasks.core.units import GIB
from tests.holding import holding


def gpu(name: str, free_gib: int = 24, pids: tuple[int, ...] = ()) -> GpuUse:
    return GpuUse(f"GPU-{name}", "NVIDIA L4", 24 * GIB, free_gib * GIB, pids)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks of this test alone, and two GPUs."""
    monkeypatch.setenv(devices.LOCKS_VARIABLE, str(tmp_path / "locks"))
    monkeypatch.setattr(devices, "read_gpu_use", lambda: (gpu("a"), gpu("b")))
    return devices.lock_directory()


def nothing(_: str) -> None: ...


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_place_that_others_can_enter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks").chmod(mode)
    monkeypatch.setenv(devices.LOCKS_VARIABLE, str(tmp_path / "locks"))
    with pytest.raises(UsageError, match=f"{mode:04o}"):
        devices.lock_directory()


def test_two_builds_do_not_share_a_device(place: Path) -> None:
    with (
        holding(place / "GPU-b.build", "evaluate"),
        pytest.raises(LockBusy, match="held by evaluate"),
        alone_on("cuda", None, "fine-tune", say=nothing, wait_s=0),
    ):
        raise AssertionError("another build has one of the GPUs")


def test_builds_on_different_devices_do_not_wait_for_each_other(place: Path) -> None:
    with (
        holding(place / "GPU-b.build", "evaluate"),
        alone_on("cuda", 1, "fine-tune", say=nothing, wait_s=0),
        alone_on("cpu", None, "fine-tune", say=nothing, wait_s=0),
    ):
        assert {holder.lock for holder in builds()} == {
            "GPU-a.build",
            "GPU-b.build",
            "cpu.build",
        }


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_no_build_waits_for_a_deployment(
    place: Path, kind: devices.DeviceKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(devices.SERVED_FROM, served_from(kind, None))
    with serving("deployment demo"), alone_on(kind, None, "fine-tune", say=nothing, wait_s=0):
        require_gpu_memory(kind, None, 20 * GIB)


@pytest.mark.parametrize("needed", [20 * GIB, None])
def test_a_build_that_does_not_fit_beside_a_deployment_is_told_what_to_do(
    place: Path, monkeypatch: pytest.MonkeyPatch, needed: int | None
) -> None:
    monkeypatch.setattr(devices, "read_gpu_use", lambda: (gpu("a"), gpu("b", free_gib=9)))
    with holding(place / "GPU-b.serving", "deployment demo", shared=True):
        require_gpu_memory("cuda", 1, needed)
        with pytest.raises(DeviceBusy) as caught:
            require_gpu_memory("cuda", 2, needed)
    assert not caught.value.retryable
    assert "deployment demo" in str(caught.value.found)
    assert "kawan-usaha stop" in str(caught.value.next_step)
    assert "CUDA_VISIBLE_DEVICES" in str(caught.value.next_step)
    require_gpu_memory("cuda", 2, needed)  # the worker has ended, and with it its lock


def test_several_deployments_share_a_device(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.SERVED_FROM, served_from("cuda", 2))
    with serving("deployment one"), serving("deployment two"):
        assert [len(holders(place / f"GPU-{name}.serving")) for name in "ab"] == [2, 2]
    assert holders(place / "GPU-a.serving") == []


def test_whoever_came_on_the_gpu_later_is_found_and_not_forgotten(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with alone_on("cuda", 1, "fine-tune", say=nothing) as alone:
        assert alone.others("device") == []
        monkeypatch.setattr(devices, "read_gpu_use", lambda: (gpu("a", pids=(4242,)),))
        assert alone.others("device") == ["pid 4242"]
        monkeypatch.setattr(devices, "read_gpu_use", lambda: (gpu("a"),))
        assert alone.others("device") == ["pid 4242"]
        assert alone.others("host") == []


@pytest.mark.parametrize(("lock", "shared"), [("GPU-a.build", False), ("cpu.serving", True)])
def test_whoever_else_builds_or_serves_may_hold_the_memory_of_the_machine(
    place: Path, lock: str, shared: bool
) -> None:
    with alone_on("cpu", None, "fine-tune", say=nothing) as alone:
        assert alone.others("host") == []
        with holding(place / lock, "another", shared=shared):
            assert alone.others("host") == ["another"]


def test_what_runs_is_shown_once_a_process_with_every_lock_that_it_holds(
    place: Path, tmp_path: Path
) -> None:
    store, shown = Store(tmp_path / "home", "rebuild demo"), []

    def write(staging: Staging) -> None:
        (staging.path / "a").write_text("weights")
        with alone_on("cpu", None, "evaluate", say=nothing):
            shown.extend(running_work(tmp_path / "home"))

    with holding(place / "GPU-a.build", "fine-tune of another"), store.in_use():
        store.build(stage_key("evaluate", 1, {}), write)
    other, mine = shown
    assert other.what == "fine-tune of another"
    assert mine.what == "rebuild demo"
    names = [holder.lock.split("-")[0] for holder in mine.holds]
    assert names == ["in", "evaluate", "cpu.build"]
    assert running_work(tmp_path / "home") == []
