"""The packages, programs and devices that a training needs, looked for before it starts."""

import importlib.util
import shutil
import sys
from pathlib import Path

from tasks.core.errors import MissingTool, RecipeError
from tasks.core.machine.hardware import read_gpus
from tasks.core.recipe import Finetune
from tasks.core.training.launch.hostfile import read_slots
from tasks.core.training.launch.start import training_environment
from tasks.core.training.trainer.hooks import require_hooks


def require_tools(settings: Finetune) -> None:
    """Raise MissingTool for a package, program or part of a library that these settings lack."""
    require_hooks()
    if settings.quantization == "4bit":
        _require_package("bitsandbytes", "4-bit weights")
    for tracker in settings.report_to:
        _require_package(tracker, "finetune.report_to")
    if settings.device == "cuda" and settings.offload != "none":
        _require_compiler(settings)
    if settings.hostfile is not None:
        _require_way_to_others(settings, settings.hostfile)


def require_gpu(settings: Finetune) -> None:
    """Raise RecipeError if training is to use a GPU and this machine has none."""
    if settings.device == "cpu" or settings.hostfile is not None:
        return
    gpus, note = read_gpus()
    if not gpus:
        raise RecipeError(
            "The training needs a GPU, and this machine has none.",
            where="finetune.device",
            expected="a CUDA device",
            found=note,
            next_step="Run on a machine with a GPU, or set finetune.device to cpu.",
        )


def _require_package(name: str, needed_by: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise MissingTool(
            f"The package {name} is not installed.",
            where=needed_by,
            expected=f"{name} in {sys.prefix}",
            next_step=f"`{Path(sys.executable).name} -m pip install {name}` there, or change "
            "the recipe.",
        )


def _require_compiler(settings: Finetune) -> None:
    """Raise MissingTool unless DeepSpeed's own Adam can be compiled on the first run."""
    env = training_environment(settings)
    why = "it compiles a part of itself on its first run"
    for program, package in ((env.get("CXX", "c++"), "g++"), ("ninja", "ninja-build")):
        _require_program(program, package, why, env["PATH"])


def _require_way_to_others(settings: Finetune, hostfile: Path) -> None:
    """Raise MissingTool unless the machines of a hostfile can be reached as DeepSpeed reaches them.

    It queries the first one through ssh, even if it is the only one, and starts several with pdsh.
    """
    path = training_environment(settings)["PATH"]
    _require_program("ssh", "openssh-client", "it queries the machines of a hostfile", path)
    if len(read_slots(hostfile)) > 1:
        _require_program("pdsh", "pdsh", "it starts processes on the machines of a hostfile", path)


def _require_program(program: str, package: str, why: str, path: str) -> None:
    if shutil.which(program, path=path) is None:
        raise MissingTool(
            f"DeepSpeed needs {program}: {why}.",
            expected=f"{program} on PATH",
            found=path,
            next_step=f"Install it, on Debian and Ubuntu with `apt-get install {package}`.",
        )
