"""Settings that libraries read once, when they are imported: they must stand before any test does.

The Hub of the tests speaks LFS, not Xet, and no test reports to anybody.
"""

import gc
import os
import signal
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# A shell that runs this with `nohup` has SIGHUP ignored, which processes inherit.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Code of model directories is imported from here: never from what an earlier run left behind.
_MODULES = tempfile.TemporaryDirectory(prefix="kawan-usaha-modules-")

# Tests do not wait for a build that runs beside them on this machine.
_LOCKS = tempfile.TemporaryDirectory(prefix="kawan-usaha-locks-")
# No test may fail for a slow or busy machine: examples have no time limit.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

os.environ.update(
    KAWAN_USAHA_LOCKS=_LOCKS.name,
    HF_MODULES_CACHE=_MODULES.name,
    HF_HUB_DISABLE_XET="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    DO_NOT_TRACK="1",
    LOGDIR="",  # or FastChat writes its logs to where the tests are run
    OMP_NUM_THREADS="1",  # the suite runs in several processes, whose threads would wait in turn
)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT interrupt, also in the background of a shell, which ignores it.

    Python swallows an interrupt that comes within a callback of the garbage collector, and
    Hypothesis has one.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()
    yield
    gc.enable()
    signal.signal(signal.SIGINT, before)
