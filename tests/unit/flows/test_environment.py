"""What a run's process sets for libraries, however it was started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.home import PROJECT

_AS_A_WORKER = """
import os
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW as missing
load_flow_from_entrypoint("flows/lifecycle.py:rebuild")
import threading, tqdm, transformers
print(os.environ["DS_ACCELERATOR"], transformers.logging.get_verbosity(), tqdm.tqdm([]).disable)
thread = threading.Thread(target=lambda: print(missing.value()))
thread.start()
thread.join()
"""


def test_a_worker_that_loads_the_flow_itself_is_as_quiet_as_the_command_line(
    tmp_path: Path,
) -> None:
    ours = ("TQDM", "TRANSFORMERS", "DS_", "PREFECT_LOGGING", "DO_NOT")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    plain |= {"PREFECT_HOME": str(tmp_path), "DS_ACCELERATOR": "cuda", "PYTHONPATH": str(PROJECT)}
    said = subprocess.run(
        [sys.executable, "-c", _AS_A_WORKER],
        cwd=PROJECT,
        env=plain,
        check=True,
        capture_output=True,
        text=True,
    )
    # What the user has set stays; 40 is the level of errors.
    assert said.stdout.splitlines()[-2:] == ["cuda 40 True", "ignore"]


@pytest.mark.parametrize(("before", "after"), [(0o000, 0o002), (0o002, 0o002), (0o077, 0o077)])
def test_nobody_else_may_change_what_is_written_whatever_the_umask_was(
    before: int, after: int
) -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import os, flows; print(os.umask(0))"],
        cwd=PROJECT,
        umask=before,
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(said.stdout) == after
