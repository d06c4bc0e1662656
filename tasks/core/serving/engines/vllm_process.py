"""The process of vLLM.

It refuses a model whose edit cannot be proven in vLLM, takes the locks of its devices, and becomes
the server by exec: the same process, which holds the locks until it ends. Only the gate of this
project is in memory then.
"""

import argparse
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

import psutil

from tasks.core.errors import EditLost, KawanUsahaError
from tasks.core.files.durable import write_atomically
from tasks.core.machine.devices import serve_for_life
from tasks.core.model.config import read_config
from tasks.core.process.environment import (
    EVERYTHING,
    child_environment,
    path_with_programs_of,
)
from tasks.core.process.tree import Mark, end_processes
from tasks.core.serving.engines.inside_vllm import kawan_usaha_gate
from tasks.core.serving.engines.vllm_command import VllmArguments, setup_of, vllm_command
from tasks.core.serving.proof.readiness import (
    EXPECTATION_VARIABLE,
    REFUSAL_FILE,
    REFUSED,
    Expectation,
    read_expectation,
    refusal_json,
)

_log = logging.getLogger(__name__)

_OURS: Final = "KAWAN_USAHA_"
_NOT_ITS_OWN: Final = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX")


def main(*words: str) -> NoReturn:
    """Become the server, or exit with REFUSED and write the reason to a file."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", type=VllmArguments.model_validate_json, required=True)
    arguments: VllmArguments = parser.parse_args(words).settings
    expectation_file = Path(os.environ[EXPECTATION_VARIABLE])
    try:
        expectation = read_expectation(expectation_file)
        require_provable(expectation)
        config = read_config(Path(arguments.model))
        setup = setup_of(arguments, config, expectation.build)
        command = vllm_command(arguments, setup, config)
        end_leftovers(expectation_file)
        serve_for_life(f"deployment {Path.cwd().parent.name}")
    except KawanUsahaError as error:
        _log.error("refusing to serve: %s", error)
        write_atomically(expectation_file.with_name(REFUSAL_FILE), refusal_json(error))
        sys.exit(REFUSED)
    _log.info("becoming %s", " ".join(command))
    os.execve(command[0], command, server_environment(os.environ, arguments.python))  # noqa: S606


def require_provable(expectation: Expectation) -> None:
    """Raise EditLost for an edited model without a fingerprint; a plain one needs none."""
    if expectation.edit is not None and expectation.fingerprint is None:
        raise EditLost(
            "The edit of this model cannot be proven in vLLM: it has no fingerprint.",
            expected="kawan_usaha_fingerprint.json in the model's directory",
            found="none: it was edited by an earlier version, or where it did not fit into memory",
            next_step="Edit it again (`kawan-usaha edit`, or `rebuild`) on a machine with memory "
            "for the whole model, or serve it with the engine `fastchat` or `transformers`.",
        )


def end_leftovers(expectation_file: Path) -> None:
    """End what an earlier process of this start left: its engine outlives a killed server.

    It would hold the memory that the new one needs for ever.
    """
    mark = Mark(EXPECTATION_VARIABLE, str(expectation_file))

    def left() -> list[psutil.Process]:
        return [process for process in mark.processes() if process.pid != os.getpid()]

    if found := left():
        _log.warning("ending what a killed server left: %s", [each.pid for each in found])
        end_processes(left)


def server_environment(environ: Mapping[str, str], python: Path) -> dict[str, str]:
    """Return environ as vLLM's server gets it, in the Python environment that has vLLM.

    Besides its own packages Python finds only the gate there. This project's variables come last:
    vLLM's processes give themselves titles, which overwrites the first variables, and they are
    recognized by the others.
    """
    gate = str(Path(kawan_usaha_gate.__file__).parent)
    changed = {
        **child_environment(environ, EVERYTHING, but=_NOT_ITS_OWN),
        "PATH": path_with_programs_of(python, environ),
        "PYTHONPATH": gate,
    }
    return dict(sorted(changed.items(), key=lambda item: item[0].startswith(_OURS)))
