"""What a CPU can, from what the kernel says; the texts are those of real machines, shortened."""

import subprocess
import sys

import pytest

from tasks.core.machine.cpu import Cpu, compute_dtype, read_cpu

AVX2 = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse4_2 f16c fma avx2 sha_ni\n"
AVX512 = "processor\t: 0\nmodel name\t: Xeon 6254\nflags\t\t: avx2 avx512f avx512bw avx512_vnni\n"
SAPPHIRE = (
    "processor\t: 0\nmodel name\t: Xeon 8480\n"
    "flags\t\t: avx2 avx512f avx512_bf16 avx512_fp16 amx_bf16 amx_tile\n\n"
    "processor\t: 1\nmodel name\t: Xeon 8480\nflags\t\t: avx2\n"
)
GRAVITON = "processor\t: 0\nFeatures\t: fp asimd fphp asimdhp sve i8mm bf16\nCPU part\t: 0xd40\n"
OLD_ARM = "processor\t: 0\nFeatures\t: fp asimd crc32\n"


@pytest.fixture
def without_torch(monkeypatch):
    """Leave torch unloaded, as in planning: this machine's torch must not judge those CPUs."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)


def cpu_of(tmp_path, text: str) -> Cpu:
    (tmp_path / "cpuinfo").write_text(text)
    return read_cpu(tmp_path)


@pytest.mark.parametrize(
    ("text", "native"),
    [
        (AVX2, ("float32",)),
        (AVX512, ("float32",)),
        (SAPPHIRE, ("float32", "bfloat16", "float16")),
        (GRAVITON, ("float32", "bfloat16", "float16")),
        (OLD_ARM, ("float32",)),
    ],
)
def test_native_types_are_those_that_the_kernel_shows_units_for(
    tmp_path, without_torch, text, native
):
    assert cpu_of(tmp_path, text).native == native


def test_a_machine_without_proc_computes_in_float32(tmp_path):
    assert read_cpu(tmp_path).native == ("float32",)


def test_the_name_and_the_units_are_shown(tmp_path):
    assert str(cpu_of(tmp_path, AVX2)) == "AMD EPYC, avx2"


def test_units_that_torch_does_not_use_do_not_count(tmp_path):
    (tmp_path / "cpuinfo").write_text(SAPPHIRE)
    program = (
        "import sys, torch; from pathlib import Path; from tasks.core.machine.cpu import read_cpu\n"
        "sys.stdout.write(','.join(read_cpu(Path(sys.argv[1])).native))"
    )
    limited = subprocess.run(
        ["env", "ATEN_CPU_CAPABILITY=avx2", sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert limited.stdout == "float32"


@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
def test_a_type_without_units_is_computed_in_float32(stored):
    assert compute_dtype(stored, Cpu()) == "float32"


def test_a_type_with_units_is_computed_as_it_is_stored():
    brain = Cpu(native=("float32", "bfloat16"))
    assert compute_dtype("bfloat16", brain) == "bfloat16"
    assert compute_dtype("float16", brain) == "float32"
