import importlib.util
import os
import sys
from pathlib import Path

import pytest

from tasks.core.errors import MissingTool
from tasks.core.recipe import Finetune
from tasks.core.system.cores import usable_cores
from tasks.core.training.launch.start import training_environment
from tasks.core.training.launch.tools import require_tools

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


def test_no_token_reaches_the_training() -> None:
    child = training_environment(
        CPU, {"HF_TOKEN": "hf_x", "HUGGING_FACE_HUB_TOKEN": "hf_x", "LANG": "C"}
    )
    assert "hf_x" not in child.values()
    assert child["LANG"] == "C"


def test_the_environments_programs_come_first() -> None:
    first, *rest = training_environment(CPU, {"PATH": "/usr/bin"})["PATH"].split(os.pathsep)
    assert first == str(Path(sys.executable).parent)
    assert rest == ["/usr/bin"]


def test_processes_on_a_cpu_share_its_cores_unless_told_otherwise() -> None:
    assert training_environment(CPU, {})["OMP_NUM_THREADS"] == str(max(1, usable_cores() // 2))
    assert training_environment(CPU, {"OMP_NUM_THREADS": "7"})["OMP_NUM_THREADS"] == "7"
    assert training_environment(CPU, {})["DS_ACCELERATOR"] == "cpu"


def test_processes_on_a_cpu_leave_torchs_compiler_alone() -> None:
    assert training_environment(CPU, {})["TORCHDYNAMO_DISABLE"] == "1"
    assert "TORCHDYNAMO_DISABLE" not in training_environment(GPU, {})
