"""Starting the training processes, and reading their output.

The invariant: no secret reaches a training process but the keys of the trackers that the recipe
names, and a device that the environment hides stays hidden.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.core.errors import MissingTool, RecipeError
from tasks.core.files.private import write_private
from tasks.core.home import PROJECT
from tasks.core.machine.hardware import read_gpus
from tasks.core.process import NETWORK, ChildResult, child_environment, run_child
from tasks.core.process.environment import path_with_programs_of
from tasks.core.process.ports import free_port
from tasks.core.process.said import said
from tasks.core.progress import OnProgress
from tasks.core.recipe import Finetune
from tasks.core.system.cores import usable_cores
from tasks.core.training.compile_locks import release_abandoned_locks
from tasks.core.training.events import from_line
from tasks.core.training.hooks import require_hooks
from tasks.core.training.hostfile import read_slots
from tasks.core.training.job import TrainingJob
from tasks.core.training.launch_command import command
from tasks.core.training.stop_request import GRACE_S

OWNER = "KAWAN_USAHA_TRAINING"
"""The variable that tells which job a training process works on, by the path of its job file."""

_MACHINES_ENVIRONMENT = ".deepspeed_env"
_ON_EVERY_MACHINE = ("DS_ACCELERATOR", "HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM")
_OTHER_MACHINES = ("SSH_AUTH_SOCK", "PDSH_*")
_TENSORBOARD = "TENSORBOARD_LOGGING_DIR"
_TRACKERS = {"wandb": "WANDB", "mlflow": "MLFLOW", "comet_ml": "COMET", "trackio": "TRACKIO"}
"""What the names of a tracker's variables begin with; its key is among them."""


def launch(
    job: TrainingJob,
    job_file: Path,
    *,
    on_progress: OnProgress,
    on_line: Callable[[str], None],
    log: Path | None = None,
) -> ChildResult:
    """Write the job file, run the job to its end, and return how its processes ended.

    A step, or a micro batch of a long one, is told in words to on_line, and then counted to
    on_progress. What the libraries print is only in the file `log`.
    """

    def hear(line: str) -> None:
        if (event := from_line(line)) is not None:
            on_line(str(event))
            on_progress(event.steps_done, event.total_steps)
        elif (text := said(line)) is not None:
            on_line(text)

    release_abandoned_locks()
    job.write(job_file)
    own = {**_own_environment(job), OWNER: str(job_file)}
    env = {**training_environment(job.settings, os.environ), **own}
    if job.settings.hostfile is not None:
        lines = [f"{name}={env[name]}" for name in (*_ON_EVERY_MACHINE, *own) if name in env]
        write_private(job_file.parent / _MACHINES_ENVIRONMENT, "\n".join(lines))
    start = command(job.settings, job_file, port=free_port(), env=os.environ)
    return run_child(
        start.argv,
        env={**env, **start.environment},
        cwd=job_file.parent,
        on_line=hear,
        log=log,
        grace_s=GRACE_S,
    )


def training_environment(settings: Finetune, env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the training processes."""
    child = child_environment(env, *_needed_besides(settings))
    child["PATH"] = path_with_programs_of(Path(sys.executable), env)  # ninja is beside python
    child["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PROJECT), env.get("PYTHONPATH"))))
    child["HF_HUB_OFFLINE"] = "1"
    child["TOKENIZERS_PARALLELISM"] = "false"
    child["DS_ACCELERATOR"] = settings.device  # it would take a GPU where there is one
    if settings.device == "cpu":
        threads = max(1, usable_cores() // settings.processes)
        child.setdefault("OMP_NUM_THREADS", str(threads))
    return child


def _needed_besides(settings: Finetune) -> tuple[str, ...]:
    """Return the variables of the trackers, which need the network, and of the way to others."""
    trackers = tuple(f"{_TRACKERS[name]}_*" for name in settings.report_to if name in _TRACKERS)
    network = NETWORK if trackers else ()
    return (*trackers, *network, *(_OTHER_MACHINES if settings.hostfile else ()))


def _own_environment(job: TrainingJob) -> dict[str, str]:
    """Return what a training process reads besides: where a tracker writes, unless it is told."""
    directory = str(job.adapter.parent / "tracking")
    return {_TENSORBOARD: os.environ.get(_TENSORBOARD, directory)}


def require_tools(settings: Finetune) -> None:
    """Raise MissingTool for a package, a program or a part of a library that these settings need
    and that is not there.
    """
    require_hooks()
    if settings.quantization == "4bit":
        _require_package("bitsandbytes", "4-bit weights")
    for tracker in settings.report_to:
        _require_package(tracker, "finetune.report_to")
    if settings.device == "cuda" and settings.offload != "none":
        _require_compiler(settings)
    if settings.hostfile is not None:
        _require_way_to_others(settings, settings.hostfile)


def require_devices(settings: Finetune) -> None:
    """Raise RecipeError when training is to compute on a GPU and this machine shows none."""
    if settings.device == "cpu" or settings.hostfile is not None:
        return
    gpus, note = read_gpus()
    if not gpus:
        raise RecipeError(
            "The training computes on a GPU, and this machine has none.",
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
            next_step=f"`{Path(sys.executable).name} -m pip install {name}` there, or take "
            "it back in the recipe.",
        )


def _require_compiler(settings: Finetune) -> None:
    """Raise MissingTool unless DeepSpeed's own Adam can be compiled at the first run."""
    env = training_environment(settings, os.environ)
    why = "it compiles a part of itself at its first run"
    for program, package in ((env.get("CXX", "c++"), "g++"), ("ninja", "ninja-build")):
        _require_program(program, package, why, env["PATH"])


def _require_way_to_others(settings: Finetune, hostfile: Path) -> None:
    """Raise MissingTool unless the machines of a hostfile can be reached as DeepSpeed does.

    It asks the first one through ssh, also where it is the only one, and starts several with pdsh.
    """
    path = training_environment(settings, os.environ)["PATH"]
    _require_program("ssh", "openssh-client", "it asks the machines of a hostfile", path)
    if len(read_slots(hostfile)) > 1:
        _require_program("pdsh", "pdsh", "it starts the machines of a hostfile", path)


def _require_program(program: str, package: str, why: str, path: str) -> None:
    if shutil.which(program, path=path) is None:
        raise MissingTool(
            f"DeepSpeed needs {program}: {why}.",
            expected=f"{program} on PATH",
            found=path,
            next_step=f"Install it, on Debian and Ubuntu with `apt-get install {package}`.",
        )
