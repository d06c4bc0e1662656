import base64
import json
import shlex
import sys
from pathlib import Path

import pytest

from tasks.core.errors import RecipeError
from tasks.core.process.quick_start import quick_start
from tasks.core.recipe import Finetune
from tasks.core.training.launch.command import Command, launch_command

JOB = Path("/jobs/job.json")
ENTRY = "tasks.core.training.entry"
CPU = Finetune(device="cpu", processes=2)
GPU = Finetune(device="cuda", processes=2)


def on_one_device(device: str, visible: dict[str, str]) -> Command:
    settings = Finetune.model_validate({"device": device, "processes": 1})
    return launch_command(settings, JOB, port=1234, env=visible)


def test_fewer_visible_gpus_than_processes_are_refused() -> None:
    with pytest.raises(RecipeError, match="CUDA_VISIBLE_DEVICES"):
        launch_command(GPU, JOB, port=1, env={"CUDA_VISIBLE_DEVICES": "3"})


def test_gpus_that_are_named_otherwise_than_by_number_are_refused() -> None:
    with pytest.raises(RecipeError, match="numbers, as in 0,1"):
        on_one_device("cuda", {"CUDA_VISIBLE_DEVICES": "GPU-1a2b"})


def test_a_hostfile_is_checked_before_anything_is_started(tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text("one slots=1\n")
    with pytest.raises(RecipeError, match="2 slots together"):
        launch_command(GPU.model_copy(update={"hostfile": hostfile}), JOB, port=1, env={})


def test_several_machines_are_those_of_the_hostfile(tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text("# two machines\none slots=1\n\ntwo slots=1  # a slow one\n")
    argv = launch_command(GPU.model_copy(update={"hostfile": hostfile}), JOB, port=1, env={}).argv
    assert argv[1:3] == ("-m", "deepspeed.launcher.runner")
    assert argv[argv.index("--hostfile") + 1] == str(hostfile)
    assert "--launcher_args=-N" in argv


@pytest.mark.parametrize(
    ("settings", "visible", "devices"),
    [
        (GPU, {}, [0, 1]),
        (GPU, {"CUDA_VISIBLE_DEVICES": "5, 2,7"}, [5, 2]),
        (CPU, {"CUDA_VISIBLE_DEVICES": "5"}, [0, 1]),
    ],
)
def test_several_processes_get_a_visible_device_each(
    settings: Finetune, visible: dict[str, str], devices: list[int]
) -> None:
    started = launch_command(settings, JOB, port=1234, env=visible)
    python, *words = started.argv
    assert python == sys.executable
    assert words[:2] == ["-m", "deepspeed.launcher.launch"]
    machine = words[2].removeprefix("--world_info=")
    assert json.loads(base64.urlsafe_b64decode(machine)) == {"localhost": devices}
    assert words[3:] == [
        *("--master_addr=127.0.0.1", "--master_port=1234"),
        *("--module", ENTRY, str(JOB)),
    ]


@pytest.mark.parametrize(
    ("device", "visible", "seen"),
    [
        ("cuda", {}, "0"),
        ("cuda", {"CUDA_VISIBLE_DEVICES": "5,2"}, "5"),
        ("cpu", {"CUDA_VISIBLE_DEVICES": "5"}, None),
    ],
)
def test_one_process_is_started_without_a_launcher(
    device: str, visible: dict[str, str], seen: str | None
) -> None:
    started = on_one_device(device, visible)
    assert started.argv == (sys.executable, "-u", *quick_start(ENTRY, str(JOB))[1:])
    assert started.environment.get("CUDA_VISIBLE_DEVICES") == seen
    assert started.environment["WORLD_SIZE"] == "1"
    assert started.environment["MASTER_PORT"] == "1234"


def test_as_a_line_for_a_shell_it_sets_the_same_variables() -> None:
    started = on_one_device("cpu", {})
    program, *words = shlex.split(started.shell)
    given = dict(word.split("=", 1) for word in words[: len(started.environment)])
    assert (program, given) == ("env", dict(started.environment))
    assert tuple(words[len(given) :]) == started.argv
    assert Command(("true",)).shell == "true"
