"""Starts the training processes and reads their output.

The invariant: no secret reaches a training process except the keys of the trackers that the recipe
names, and a device that the environment hides stays hidden.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.core.files.private import write_private
from tasks.core.home import PROJECT
from tasks.core.process import NETWORK, ChildResult, child_environment, run_child
from tasks.core.process.environment import path_with_programs_of
from tasks.core.process.ports import free_port
from tasks.core.process.said import said
from tasks.core.progress import OnProgress
from tasks.core.recipe import Finetune
from tasks.core.system.cores import usable_cores
from tasks.core.training.events import from_line
from tasks.core.training.job import TrainingJob
from tasks.core.training.launch.command import launch_command
from tasks.core.training.launch.compile_locks import release_abandoned_locks
from tasks.core.training.trainer.stop_request import TRAINING_GRACE_S

OWNER = "KAWAN_USAHA_TRAINING"
"""The variable that marks a training process with the path of its job file."""

_MACHINES_ENVIRONMENT = ".deepspeed_env"
_ON_EVERY_MACHINE = ("DS_ACCELERATOR", "HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM")
_OTHER_MACHINES = ("SSH_AUTH_SOCK", "PDSH_*")
_TENSORBOARD = "TENSORBOARD_LOGGING_DIR"
_TRACKERS = {"wandb": "WANDB", "mlflow": "MLFLOW", "comet_ml": "COMET", "trackio": "TRACKIO"}
"""The prefixes of each tracker's variables; its key is among them."""


def launch(
    job: TrainingJob,
    job_file: Path,
    *,
    on_progress: OnProgress,
    on_line: Callable[[str], None],
    log: Path | None = None,
) -> ChildResult:
    """Write the job file, run the job to its end, and return how its processes ended.

    Each step, and each micro batch of a long step, is reported in words to on_line and counted by
    on_progress. The libraries' output goes only to the file `log`.
    """

    def report(line: str) -> None:
        if (event := from_line(line)) is not None:
            on_line(str(event))
            on_progress(event.steps_done, event.total_steps)
        elif (text := said(line)) is not None:
            on_line(text)

    release_abandoned_locks()
    job.write(job_file)
    own = {**_own_environment(job), OWNER: str(job_file)}
    env = {**training_environment(job.settings), **own}
    if job.settings.hostfile is not None:
        lines = [f"{name}={env[name]}" for name in (*_ON_EVERY_MACHINE, *own) if name in env]
        write_private(job_file.parent / _MACHINES_ENVIRONMENT, "\n".join(lines))
    start = launch_command(job.settings, job_file, port=free_port(), env=os.environ)
    return run_child(
        start.argv,
        env={**env, **start.environment},
        cwd=job_file.parent,
        on_line=report,
        log=log,
        grace_s=TRAINING_GRACE_S,
    )


def training_environment(settings: Finetune, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of the training processes, made from ours."""
    child = child_environment(env, *_additional_variables(settings))
    child["PATH"] = path_with_programs_of(Path(sys.executable), env)  # ninja is beside python
    child["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PROJECT), env.get("PYTHONPATH"))))
    child["HF_HUB_OFFLINE"] = "1"
    child["TOKENIZERS_PARALLELISM"] = "false"
    child["DS_ACCELERATOR"] = settings.device  # else it would use a GPU if there is one
    if settings.device == "cpu":
        threads = max(1, usable_cores() // settings.processes)
        child.setdefault("OMP_NUM_THREADS", str(threads))
        # Nothing is compiled on a CPU; for an optimizer that is not used (Muon) DeepSpeed would
        # import all of torch's compiler, 1.6 s of a core.
        child["TORCHDYNAMO_DISABLE"] = "1"
    return child


def _additional_variables(settings: Finetune) -> tuple[str, ...]:
    """Return the variables of the trackers, of the network they need, and of other machines."""
    trackers = tuple(f"{_TRACKERS[name]}_*" for name in settings.report_to if name in _TRACKERS)
    network = NETWORK if trackers else ()
    return (*trackers, *network, *(_OTHER_MACHINES if settings.hostfile else ()))


def _own_environment(job: TrainingJob) -> dict[str, str]:
    """Return the variables of this job alone: where a tracker writes, unless that is set."""
    directory = str(job.adapter.parent / "tracking")
    return {_TENSORBOARD: os.environ.get(_TENSORBOARD, directory)}
