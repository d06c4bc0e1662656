import importlib.util
import os
import sys
from pathlib import Path

import pytest

from tasks.core.cores import usable_cores
from tasks.core.errors import MissingTool, RecipeError
from tasks.core.recipe import Finetune
from tasks.core.training.launch import command, environment, require_tools

JOB = Path("/jobs/job.json")
CPU = Finetune(device="cpu", processes=2)
GPU = Finetune(device="cuda", processes=2)


@pytest.mark.parametrize("missing", ["c++", "ninja"])
def test_a_missing_compiler_is_named_with_advice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    for tool in {"c++", "ninja", "python"} - {missing}:
        (tmp_path / tool).touch(mode=0o755)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(MissingTool, match=rf"needs {missing[0]}[\s\S]*apt-get install"):
        require_tools(GPU.model_copy(update={"offload": "optimizer"}))
    for uncompiled in (GPU, CPU, CPU.model_copy(update={"offload": "optimizer"})):
        require_tools(uncompiled)


@pytest.mark.parametrize(
    ("settings", "package"),
    [
        ({"quantization": "4bit", "zero_stage": 2}, "bitsandbytes"),
        ({"report_to": ["wandb"]}, "wandb"),
    ],
)
def test_a_missing_package_is_named_with_advice(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], package: str
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find_spec(name)
    )
    with pytest.raises(MissingTool, match=rf"{package} is not[\s\S]*pip install {package}"):
        require_tools(Finetune.model_validate(settings))


@pytest.mark.parametrize(("machines", "missing"), [(1, "ssh"), (2, "ssh"), (2, "pdsh")])
def test_a_missing_way_to_the_machines_of_a_hostfile_is_named_with_advice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machines: int, missing: str
) -> None:
    for tool in {"ssh", "pdsh", "python"} - {missing}:
        (tmp_path / tool).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    hostfile = tmp_path / "hosts"
    hostfile.write_text("".join(f"gpu-{number} slots=1\n" for number in range(machines)))
    settings = CPU.model_copy(update={"hostfile": hostfile, "processes": machines})
    with pytest.raises(MissingTool, match=rf"needs {missing}:[\s\S]*apt-get install"):
        require_tools(settings)
    (tmp_path / missing).touch(mode=0o755)
    require_tools(settings)


def test_a_hostfile_is_checked_before_anything_is_started(tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text("one slots=1\n")
    with pytest.raises(RecipeError, match="2 slots together"):
        command(GPU.model_copy(update={"hostfile": hostfile}), JOB, port=1, env={})


def test_several_machines_are_those_of_the_hostfile(tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text("# two machines\none slots=1\n\ntwo slots=1  # a slow one\n")
    argv = command(GPU.model_copy(update={"hostfile": hostfile}), JOB, port=1, env={})
    assert argv[argv.index("--hostfile") + 1] == str(hostfile)
    assert "--launcher_args=-N" in argv
    assert "--num_gpus" not in argv


def test_fewer_visible_gpus_than_processes_are_refused() -> None:
    with pytest.raises(RecipeError, match="CUDA_VISIBLE_DEVICES"):
        command(GPU, JOB, port=1, env={"CUDA_VISIBLE_DEVICES": "3"})


@pytest.mark.parametrize(
    ("settings", "visible", "devices"),
    [
        (GPU, {}, ("--num_gpus", "2")),
        (GPU, {"CUDA_VISIBLE_DEVICES": "5, 2,7"}, ("--include", "localhost:5,2")),
        (CPU, {"CUDA_VISIBLE_DEVICES": "5"}, ("--num_gpus", "2")),
    ],
)
def test_the_launcher_gets_one_process_a_visible_device(
    settings: Finetune, visible: dict[str, str], devices: tuple[str, str]
) -> None:
    argv = command(settings, JOB, port=1234, env=visible)
    assert argv == (
        *(sys.executable, "-m", "deepspeed.launcher.runner", "--master_port", "1234"),
        *devices,
        *("--module", "tasks.core.training.entry", str(JOB)),
    )


def test_no_token_reaches_the_training() -> None:
    child = environment(CPU, {"HF_TOKEN": "hf_x", "HUGGING_FACE_HUB_TOKEN": "hf_x", "LANG": "C"})
    assert "hf_x" not in child.values()
    assert child["LANG"] == "C"


def test_the_environments_programs_come_first() -> None:
    first, *rest = environment(CPU, {"PATH": "/usr/bin"})["PATH"].split(os.pathsep)
    assert first == str(Path(sys.executable).parent)
    assert rest == ["/usr/bin"]


def test_processes_on_a_cpu_share_its_cores_unless_told_otherwise() -> None:
    assert environment(CPU, {})["OMP_NUM_THREADS"] == str(max(1, usable_cores() // 2))
    assert environment(CPU, {"OMP_NUM_THREADS": "7"})["OMP_NUM_THREADS"] == "7"
    assert environment(CPU, {})["DS_ACCELERATOR"] == "cpu"
