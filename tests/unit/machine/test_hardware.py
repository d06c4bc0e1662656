import sys

import psutil
import pytest

from tasks.core.machine.gpus import parse_gpus
from tasks.core.machine.hardware import (
    cgroup_memory_limit,
    read_gpu_use,
    read_gpus,
    read_hardware,
    with_gpus,
)
from tasks.core.system.cores import usable_cores

NO_LIMIT_V1 = "9223372036854771712"

DRIVER = """
class NVMLError(Exception): ...
class Memory: total, free = 24152899584, 20000000000
class Process: pid = 4242
def nvmlInit(): {init}
def nvmlShutdown(): ...
def nvmlDeviceGetCount(): return 3
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetUUID(handle): return "GPU-" + "abc"[handle] * 8
def nvmlDeviceGetName(handle): return ["NVIDIA L4", "Tesla T4", "Something New"][handle]
def nvmlDeviceGetMemoryInfo(handle): return Memory
def nvmlDeviceGetComputeRunningProcesses(handle): return [Process][:handle]
def nvmlDeviceGetCudaComputeCapability(handle): return [(8, 9), (7, 5), (12, 0)][handle]
"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Put a driver of this text in the place of NVML, the edge of the machine."""

    def install(init: str = "...") -> None:
        (tmp_path / "pynvml.py").write_text(DRIVER.format(init=init))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "pynvml", raising=False)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    yield install
    sys.modules.pop("pynvml", None)


def machine(tmp_path, groups: str, limits: dict[str, str]):
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(groups)
    for file, limit in limits.items():
        path = tmp_path / "cgroup" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{limit}\n")
    return cgroup_memory_limit(proc=tmp_path / "proc", root=tmp_path / "cgroup")


def test_a_machine_without_cgroups_has_no_limit(tmp_path):
    assert cgroup_memory_limit(proc=tmp_path, root=tmp_path) is None


def test_version_2_says_max_for_no_limit(tmp_path):
    assert machine(tmp_path, "0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "max"}) is None


def test_version_2_the_lowest_limit_on_the_way_up_counts(tmp_path):
    limits = {"a/b/memory.max": "8000", "a/memory.max": "5000", "memory.max": "max"}
    assert machine(tmp_path, "0::/a/b\n", limits) == 5000


def test_version_1_says_a_huge_number_for_no_limit(tmp_path):
    limits = {"memory/memory.limit_in_bytes": NO_LIMIT_V1}
    assert machine(tmp_path, "4:memory:/\n0::/\n", limits) is None


def test_version_1_is_read_where_the_memory_controller_is(tmp_path):
    limits = {
        "memory/job/memory.limit_in_bytes": "7000",
        "memory/memory.limit_in_bytes": NO_LIMIT_V1,
        "job/memory.max": "1",
    }
    assert machine(tmp_path, "5:cpu,cpuacct:/x\n4:memory,hugetlb:/job\n", limits) == 7000


def test_a_group_that_the_container_does_not_show_is_passed_over(tmp_path):
    limits = {"memory/memory.limit_in_bytes": "6000"}
    assert machine(tmp_path, "4:memory:/docker/0123\n", limits) == 6000


def test_without_the_bindings_there_are_no_gpus_and_it_is_said_why(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    gpus, note = read_gpus()
    assert gpus == ()
    assert "nvidia-ml-py" in (note or "")


def test_without_a_driver_there_are_no_gpus_and_it_is_said_why(driver):
    driver(init='raise NVMLError("NVML Shared Library Not Found")')
    assert read_gpus() == ((), "no NVIDIA driver answers: NVML Shared Library Not Found")


def test_gpus_have_the_drivers_memory_and_the_known_speed(driver):
    driver()
    gpus, note = read_gpus()
    assert note is None
    assert [gpu.name for gpu in gpus] == ["NVIDIA L4", "Tesla T4", "Something New"]
    assert [gpu.speed and gpu.speed.tflops for gpu in gpus] == [121, 65, None]
    assert [gpu.bfloat16 for gpu in gpus] == [True, False, True]
    assert gpus[0].memory_bytes == 24_152_899_584


@pytest.mark.parametrize(
    ("setting", "seen"),
    [
        ("1", ["Tesla T4"]),
        ("2,0", ["Something New", "NVIDIA L4"]),
        ("GPU-bbb", ["Tesla T4"]),
        ("0,7,1", ["NVIDIA L4"]),  # CUDA stops at the first that is not there
        ("", []),
        ("-1", []),
    ],
)
def test_only_what_cuda_would_see_counts(driver, monkeypatch, setting, seen):
    driver()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    assert [gpu.name for gpu in read_gpus()[0]] == seen


def test_this_machine_is_read(tmp_path):
    hardware = read_hardware(tmp_path / "not" / "there" / "yet")
    assert 0 < hardware.memory_available_bytes <= hardware.memory_bytes
    assert hardware.memory_bytes <= psutil.virtual_memory().total
    assert hardware.disk_free_bytes > 0
    assert hardware.cores == usable_cores()


def test_named_gpus_take_the_place_of_those_found(tmp_path):
    named = with_gpus(read_hardware(tmp_path), parse_gpus("8xH100"))
    assert len(named.gpus) == 8
    assert named.gpus_named
    assert named.gpu_note is None


def test_who_uses_a_gpu_is_told_for_the_visible_ones_in_their_order(driver, monkeypatch):
    driver()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    first, second = read_gpu_use()
    assert (first.uuid, first.pids) == ("GPU-bbbbbbbb", (4242,))
    assert (second.uuid, second.pids) == ("GPU-aaaaaaaa", ())
    assert (first.memory_bytes, first.free_bytes) == (24152899584, 20000000000)


def test_without_a_driver_nobody_uses_a_gpu(driver):
    driver('raise NVMLError("no driver")')
    assert read_gpu_use() == ()
