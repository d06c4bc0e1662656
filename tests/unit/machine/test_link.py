"""The link to the GPU: measured once a machine, never while somebody uses the card."""

import dataclasses

import pytest

from tasks.core.machine import hardware as machine
from tasks.core.machine import speed
from tasks.core.machine.gpus import parse_gpus
from tasks.core.machine.hardware import GpuUse, Hardware, read_hardware, with_gpus, with_link
from tasks.core.machine.speed import LinkSpeed, measured_link, recorded_link
from tasks.core.planning.rungs import fit_rungs
from tasks.core.planning.shape import LLAMA_13B
from tasks.core.recipe import Finetune
from tasks.core.units import GIB

FAST = LinkSpeed(pinned_bytes_per_s=29e9, pageable_bytes_per_s=6e9)
IDLE = GpuUse("GPU-one", "H100", 80 * GIB, 79 * GIB, ())
OFFLOADED = Finetune(offload="all", epochs=1)


@pytest.fixture
def probe(tmp_path, monkeypatch):
    """Let the measuring process be one that says this; each start leaves a line."""
    module = tmp_path / "probe_in_its_place.py"
    monkeypatch.setattr(speed, "PROJECT", tmp_path)
    monkeypatch.setattr(speed, "_PROBE", module.stem)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    starts = tmp_path / "starts"

    def says(text: str) -> None:
        module.write_text(f"open({str(starts)!r}, 'a').write('started\\n')\nprint({text!r})")

    says.starts = lambda: starts.read_text().count("started") if starts.exists() else 0
    return says


@pytest.fixture
def h100(tmp_path) -> Hardware:
    found = read_hardware(tmp_path)
    return dataclasses.replace(found, gpus=parse_gpus("1xH100"), memory_bytes=200 * GIB)


def test_a_machine_that_cannot_be_measured_has_no_link_and_no_error(tmp_path, probe):
    probe("RuntimeError: no CUDA")
    assert measured_link(tmp_path / "home", ["GPU-one"]) is None


def test_a_link_is_measured_once_a_machine(tmp_path, probe):
    probe(FAST.model_dump_json())
    for _ in range(2):
        assert measured_link(tmp_path / "home", ["GPU-one"]) == FAST
    assert probe.starts() == 1
    assert recorded_link(tmp_path / "home", ["GPU-one"]) == FAST
    assert recorded_link(tmp_path / "home", ["GPU-other"]) is None


@pytest.mark.parametrize(
    "use",
    [(dataclasses.replace(IDLE, pids=(4242,)),), (dataclasses.replace(IDLE, free_bytes=GIB),), ()],
    ids=["a process", "memory of others", "no answer"],
)
def test_nothing_is_measured_beside_others(tmp_path, probe, monkeypatch, h100, use):
    probe(FAST.model_dump_json())
    monkeypatch.setattr(machine, "read_gpu_use", lambda: use)
    assert with_link(h100, tmp_path / "home").link is None
    assert probe.starts() == 0


def test_a_machine_without_a_gpu_or_a_named_one_is_not_measured(tmp_path, probe, h100):
    probe(FAST.model_dump_json())
    for other in (dataclasses.replace(h100, gpus=()), with_gpus(h100, parse_gpus("2xL4"))):
        assert with_link(other, tmp_path / "home").link is None
    assert probe.starts() == 0


def test_the_plan_of_an_offload_takes_the_measured_link(tmp_path, probe, monkeypatch, h100):
    probe(FAST.model_dump_json())
    monkeypatch.setattr(machine, "read_gpu_use", lambda: (IDLE,))

    def seconds(found: Hardware) -> float:
        return fit_rungs(LLAMA_13B, OFFLOADED, found, training_tokens=10**6)[0].seconds or 0

    assert seconds(with_link(h100, tmp_path / "home")) < 0.65 * seconds(h100)
