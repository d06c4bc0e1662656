"""The measurement of this machine, and what becomes of it when it cannot be made or kept."""

import importlib.metadata
import os
import subprocess
import sys

import pytest

from tasks.core.machine import speed
from tasks.core.machine.speed import CpuSpeed, measured_cpu_speed
from tests.machines import AVX2, NATIVE


def answers(text: str, *, code: int = 0) -> str:
    return f"import sys; sys.stdout.write({text!r}); sys.exit({code})"


@pytest.fixture
def probe(tmp_path, monkeypatch):
    """Let the measuring process be this program; each start leaves a line."""
    module = tmp_path / "probe_in_its_place.py"
    monkeypatch.setattr(speed, "PROJECT", tmp_path)
    monkeypatch.setattr(speed, "_PROBE", module.stem)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def install(program: str) -> None:
        module.write_text(f"open({str(tmp_path / 'starts')!r}, 'a').write('started\\n')\n{program}")

    return install


def starts(tmp_path) -> int:
    return (tmp_path / "starts").read_text().count("\n")


@pytest.mark.parametrize(
    "program",
    [
        "raise ModuleNotFoundError('torch')",
        answers("", code=0),
        answers("{}"),
        answers("Illegal instruction", code=132),
    ],
)
def test_a_measurement_that_fails_is_no_speed_and_no_error(tmp_path, probe, program):
    probe(program)
    assert measured_cpu_speed(tmp_path / "home") is None


def test_a_measurement_that_hangs_is_given_up(tmp_path, probe, monkeypatch):
    monkeypatch.setattr(speed, "_TIMEOUT_S", 0.5)
    probe("import time; time.sleep(600)")
    assert measured_cpu_speed(tmp_path / "home") is None


def test_without_torch_nothing_is_started(tmp_path, probe, monkeypatch):
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    probe(answers(AVX2.model_dump_json()))
    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert measured_cpu_speed(tmp_path / "home") is None
    assert not (tmp_path / "starts").exists()


def test_a_machine_is_measured_once(tmp_path, probe):
    probe(answers(AVX2.model_dump_json()))
    assert measured_cpu_speed(tmp_path / "home") == measured_cpu_speed(tmp_path / "home") == AVX2
    assert starts(tmp_path) == 1


def test_the_measuring_process_knows_no_secret(tmp_path, probe, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_sesame")
    probe(f"import os; open({str(tmp_path / 'told')!r}, 'w').write(str(dict(os.environ)))")
    measured_cpu_speed(tmp_path / "home")
    assert "PATH" in (tmp_path / "told").read_text()
    assert "sesame" not in (tmp_path / "told").read_text()


def test_another_number_of_threads_is_measured_anew(tmp_path, probe, monkeypatch):
    probe(answers(AVX2.model_dump_json()))
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        measured_cpu_speed(tmp_path / "home")
    assert starts(tmp_path) == 2


def test_a_damaged_record_is_measured_anew(tmp_path, probe):
    probe(answers(AVX2.model_dump_json()))
    measured_cpu_speed(tmp_path / "home")
    (record,) = (tmp_path / "home" / "machine").iterdir()
    record.write_text(record.read_text()[:40])
    assert measured_cpu_speed(tmp_path / "home") == AVX2


BUSY = AVX2.model_copy(update={"busy": True})


def test_what_other_work_disturbed_is_kept_for_an_hour(tmp_path, probe):
    probe(answers(BUSY.model_dump_json()))
    assert measured_cpu_speed(tmp_path / "home") == measured_cpu_speed(tmp_path / "home") == BUSY
    assert starts(tmp_path) == 1


def let_an_hour_pass(home):
    (record,) = (home / "machine").iterdir()
    os.utime(record, (0, record.stat().st_mtime - 3601))


def test_after_the_hour_an_undisturbed_measurement_is_kept_for_good(tmp_path, probe):
    probe(answers(BUSY.model_dump_json()))
    measured_cpu_speed(tmp_path / "home")
    let_an_hour_pass(tmp_path / "home")
    probe(answers(AVX2.model_dump_json()))
    assert measured_cpu_speed(tmp_path / "home") == AVX2
    let_an_hour_pass(tmp_path / "home")
    assert measured_cpu_speed(tmp_path / "home") == AVX2
    assert starts(tmp_path) == 2


def test_of_two_disturbed_measurements_the_faster_figures_count(tmp_path, probe):
    fp32 = BUSY.types["float32"]
    slower = fp32.model_copy(update={"forward_flops_per_s": fp32.forward_flops_per_s / 3})
    for types in (BUSY.types, {"float32": slower}):
        probe(answers(BUSY.model_copy(update={"types": types}).model_dump_json()))
        found = measured_cpu_speed(tmp_path / "home")
        let_an_hour_pass(tmp_path / "home")
    assert found == BUSY


def test_a_disturbed_measurement_is_better_than_a_failed_one(tmp_path, probe):
    probe(answers(BUSY.model_dump_json()))
    measured_cpu_speed(tmp_path / "home")
    let_an_hour_pass(tmp_path / "home")
    probe("raise ModuleNotFoundError('torch')")
    assert measured_cpu_speed(tmp_path / "home") == BUSY


def test_a_home_that_cannot_be_written_still_gets_the_speed(tmp_path, probe):
    probe(answers(AVX2.model_dump_json()))
    (tmp_path / "home").write_text("a file where the directory should be")
    assert measured_cpu_speed(tmp_path / "home") == AVX2


def test_16_bits_without_units_are_many_times_slower_and_with_units_are_not():
    assert (AVX2.slowdown("bfloat16", "training") or 0) > 20
    assert (NATIVE.slowdown("bfloat16", "training") or 9) < 1
    assert AVX2.slowdown("float32", "training") == 1


def test_a_forward_pass_is_judged_without_the_products_of_the_backward_pass():
    forward, training = (AVX2.slowdown("bfloat16", which) for which in ("forward", "training"))
    assert forward and training and forward < training


def test_a_type_that_torch_cannot_multiply_has_no_slowdown():
    no_half = AVX2.model_copy(update={"types": {"float32": AVX2.types["float32"]}})
    assert no_half.slowdown("float16", "forward") is None


def test_the_probe_measures_this_machine():
    done = subprocess.run(
        [sys.executable, "-m", "tasks.core.machine.probe", "cpu"], capture_output=True, check=True
    )
    found = CpuSpeed.model_validate_json(done.stdout)
    assert found.threads >= 1
    assert {"float32", "bfloat16"} <= set(found.types)
