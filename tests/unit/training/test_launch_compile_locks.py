import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.training.launch.compile_locks import release_abandoned_locks

# torch's own lock, taken as its compiler does and held until the process is killed.
HOLDS = """
import sys, time
from torch.utils.file_baton import FileBaton
baton = FileBaton(sys.argv[1])
print(baton.try_acquire(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "py311_cpu" / "cpu_adam" / "lock"
    path.parent.mkdir(parents=True)
    return path


def test_a_lock_is_left_alone_while_held_and_removed_after_a_kill(
    tmp_path: Path, lock: Path
) -> None:
    argv = [sys.executable, "-c", HOLDS, str(lock)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert release_abandoned_locks(tmp_path) == ()
        assert lock.exists()
        holder.send_signal(signal.SIGKILL)
    assert release_abandoned_locks(tmp_path) == (lock,)
    assert not lock.exists()


def test_a_cache_that_does_not_exist_yet_has_no_locks(tmp_path: Path) -> None:
    assert release_abandoned_locks(tmp_path / "nothing") == ()
