"""The type that a model is measured in on a CPU."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tasks.core.evaluation import benchmarks, loading
from tasks.core.evaluation.figures import Subject
from tasks.core.machine.cpu import UNKNOWN_CPU, Cpu
from tasks.core.recipe import Evaluate
from tests.models import tiny_llama

NATIVE = Cpu(native=("float32", "bfloat16", "float16"))
SETTINGS = Evaluate(device="cpu", benchmarks=("warung",))


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is stored in float16."""
    return tiny_llama(tmp_path_factory.mktemp("model"), dtype="float16")


@pytest.mark.parametrize(("cpu", "dtype"), [(UNKNOWN_CPU, torch.float32), (NATIVE, torch.float16)])
def test_a_model_is_measured_as_stored_only_where_the_cpu_has_units_for_it(
    half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: Cpu, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(loading, "read_cpu", lambda: cpu)
    assert loading.load_model(half, SETTINGS, tmp_path).dtype == dtype


def test_the_stored_type_is_taken_where_float32_does_not_fit(
    half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "read_cpu", lambda: UNKNOWN_CPU)
    weights = (half / "model.safetensors").stat().st_size
    room = SimpleNamespace(memory_available_bytes=2 * weights)
    monkeypatch.setattr(loading, "read_hardware", lambda _: room)
    assert loading.load_model(half, SETTINGS, tmp_path).dtype == torch.float16


@pytest.mark.parametrize(("cpu", "dtype"), [(UNKNOWN_CPU, "float32"), (NATIVE, "float16")])
def test_benchmarks_compute_in_the_same_type(
    half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: Cpu, dtype: str
) -> None:
    monkeypatch.setattr(benchmarks, "read_cpu", lambda: cpu)
    subject = Subject(role="merged", path=half)
    argv = benchmarks._command(subject, SETTINGS, tmp_path)
    assert f'"dtype": "{dtype}"' in argv[argv.index("--model_args") + 1]
