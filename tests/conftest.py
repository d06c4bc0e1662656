"""Settings that libraries read once, when they are imported: they must stand before any test does.

The Hub of the tests speaks LFS, not Xet, and no test reports to anybody.
"""

import gc
import os
import shlex
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from hypothesis import HealthCheck, settings

from tests.fuzz.mutations import EXAMPLES
from tests.prefork import children_preforked, fork_of_the_collected, preforked_quick_start
from tests.prefork.server import read_again

# A shell that runs this with `nohup` has SIGHUP ignored, which processes inherit.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# No test may fail for a slow or busy machine: examples have no time limit, and a server has as much
# time to answer as it needs. Nor may one fail on a change that it has nothing to do with: examples
# are the same in each run, except those of `make fuzz`.
settings.register_profile(
    "unhurried",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=not EXAMPLES,
    database=None,
)
settings.load_profile("unhurried")
for part in ("connect", "read", "write", "pool"):
    setattr(DEFAULT_TIMEOUT_CONFIG, part, 600.0)

os.environ.update(
    HF_HUB_DISABLE_XET="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    DO_NOT_TRACK="1",
    LOGDIR="",  # or FastChat writes its logs to where the tests are run
    # No test asks anybody with a public certificate; to read those takes 35 ms for each client.
    SSL_CERT_FILE=str(Path(__file__).parents[1] / "flows" / "prefect_server" / "nobody.pem"),
    OMP_NUM_THREADS="1",  # the suite runs in several processes, whose threads would wait in turn
)


def pytest_configure(config: pytest.Config) -> None:
    """Give each process its own places; fork those of pytest-xdist from one that has collected."""
    gc.disable()  # or it would scan what is imported again and again
    for name, use in (
        # Code of model directories is imported from here: never from what an earlier run left.
        ("HF_MODULES_CACHE", "modules"),
        # Tests do not wait for a build that runs beside them on this machine.
        ("KAWAN_USAHA_LOCKS", "locks"),
    ):
        directory = tempfile.TemporaryDirectory(prefix=f"kawan-usaha-{use}-")
        config.add_cleanup(directory.cleanup)
        os.environ[name] = directory.name
    read_again()
    if config.getoption("dist", "no") != "no":
        python = shlex.join(fork_of_the_collected(config.args))
        config.option.tx = [f"{each}//python={python}" for each in config.option.tx]


def pytest_collection_finish() -> None:
    """Have the collector run again, without what is there by now."""
    gc.freeze()
    gc.enable()


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


@pytest.fixture(scope="module")
def preforked_children() -> Iterator[None]:
    """Spare those that measure, prove and take fingerprints their imports; see `tests.prefork`."""
    with children_preforked():
        yield


@pytest.fixture
def real_children(preforked_children: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have those of this test started as a user's are."""
    from tasks.core.architecture.proof import fresh_process
    from tasks.core.evaluation import evaluate
    from tasks.core.process.quick_start import quick_start

    for module in (evaluate, fresh_process):
        monkeypatch.setattr(module, "quick_start", quick_start)


@pytest.fixture
def preforked_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare a training in a single process its imports; see `tests.prefork`."""
    from tasks.core.training.launch import command

    monkeypatch.setattr(command, "quick_start", preforked_quick_start)
