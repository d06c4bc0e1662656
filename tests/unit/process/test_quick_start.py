"""A module is imported while the collector rests, and runs with it."""

import os
import subprocess
from pathlib import Path

from tasks.core.process.quick_start import quick_start

MODULE = """
import gc, sys
IMPORTED = gc.isenabled()

def main(*words):
    print(IMPORTED, gc.isenabled(), gc.get_freeze_count() > 0, *words)
    return 3
"""


def test_the_collector_rests_until_the_module_is_there(tmp_path: Path):
    (tmp_path / "some_module.py").write_text(MODULE)
    ended = subprocess.run(
        quick_start("some_module", "a", "b"),
        env={**os.environ, "PYTHONPATH": f"{Path.cwd()}{os.pathsep}{tmp_path}"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (3, "False True True a b\n")
