"""Want of memory in the stages that compute in the flow's own process, by a limit of the kernel.

Those that compute in processes of their own have tests where they are: see docs/faults.md.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.survey import files_in
from tests.memory_group import memory_group
from tests.unit.weights.adapters import train
from tests.unit.weights.models import base_model, delta_for

pytestmark = pytest.mark.slow

_PROGRAM = """
import resource, sys
import psutil
from flows import cli
import tasks.core.weights.merge, tasks.core.weights.fuse, flows.actions.merge, flows.actions.fuse
spare = int(sys.argv.pop(1))
if spare:
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, resource.RLIM_INFINITY))
sys.argv[0] = "kawan-usaha"
cli.main()
"""
_SPARE_MB = (1, 4, 16, 64)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    base = base_model(root / "base")
    delta_for(base, root / "delta")
    train(base, root / "adapter", target_modules=["q_proj"])
    return root


def test_a_crew_of_which_the_kernel_kills_one_says_so() -> None:
    with memory_group(256 << 20) as group:
        ended = subprocess.run(
            [sys.executable, "-c", "from tests.faults.hungry import main; main()", str(group)],
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )
    assert ended.stdout.startswith("SystemRefused The kernel killed one of the worker processes")
    assert "next step: Close other programs" in ended.stdout


@pytest.mark.parametrize(
    ("stage", "inputs"), [("merge", ("base", "delta")), ("fuse", ("base", "adapter"))]
)
def test_a_stage_without_memory_says_so_and_the_next_one_has_the_same_bytes(
    stage: str, inputs: tuple[str, ...], models: Path, tmp_path: Path
) -> None:
    def ran(spare_mb: int, out: Path) -> subprocess.CompletedProcess[str]:
        words = [stage, *(str(models / name) for name in inputs), str(out)]
        return subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(spare_mb << 20), *words],
            env={**os.environ, "KAWAN_USAHA_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    assert ran(0, tmp_path / "wanted").returncode == 0
    failed = []
    for spare_mb in _SPARE_MB:
        ended = ran(spare_mb, tmp_path / "out")
        if ended.returncode == 0:
            break
        failed.append(ended.stderr)
    for said in failed:
        assert "Traceback" not in said
        assert said.startswith(
            (
                "kawan-usaha: This machine ran out of memory.",
                "kawan-usaha: No more processes or threads can be created.",
            )
        ), said
    assert failed
    if not (tmp_path / "out").exists():
        assert ran(0, tmp_path / "out").returncode == 0
    assert files_in(tmp_path / "out") == files_in(tmp_path / "wanted")
