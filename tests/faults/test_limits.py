"""Commands under the system's limits: descriptors and rights."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.keys import stage_key
from tasks.core.process.descriptors import allow_many_descriptors
from tasks.core.store import Store
from tasks.core.store.runs import RunRecords
from tests.models import tiny_llama
from tests.unit.weights.models import base_model, delta_for

pytestmark = pytest.mark.slow

KEY = stage_key("merge", 1, {})
COMMAND = Path(sys.executable).with_name("kawan-usaha")
_NO_OVERRIDE = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
"""Root may read and write everything; without these two it may what the modes say."""


def _ran(argv: list[object], home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in argv],
        env={**os.environ, "KAWAN_USAHA_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with an artifact that one run has made."""
    Store(tmp_path / "home").build(KEY, lambda s: (s.path / "weights").write_text("w"))
    run = RunRecords(tmp_path / "home").start("demo")
    run.add(str(KEY))
    run.finish()
    return tmp_path / "home"


# --- descriptors ---------------------------------------------------------------------------


def test_a_merge_with_too_few_descriptors_says_so_and_goes_on_with_more(tmp_path: Path) -> None:
    base = base_model(tmp_path / "base", form="many")
    delta = delta_for(base, tmp_path / "delta", form="many")
    shards = len(list(base.glob("*.safetensors")))
    words: list[object] = [COMMAND, "merge", base, delta, tmp_path / "out"]
    limited: list[object] = ["sh", "-c", f'ulimit -n {shards + 6}; exec "$@"', "sh", *words]
    few = _ran(limited, tmp_path / "home")
    assert few.returncode == 1, few.stderr
    assert few.stderr.startswith("kawan-usaha: Too many open files.")
    assert "ulimit -n" in few.stderr
    assert "Traceback" not in few.stderr
    assert _ran(words, tmp_path / "home").returncode == 0


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import resource; from tasks.core.process.descriptors import allow_many_descriptors;"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512)); allow_many_descriptors();"
            "print(*resource.getrlimit(resource.RLIMIT_NOFILE))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["512", "512"]


def test_this_process_takes_all_descriptors_that_it_may() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        allow_many_descriptors()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft >= min(hard, 65_536) or hard == resource.RLIM_INFINITY
        assert hard == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# --- rights --------------------------------------------------------------------------------


@pytest.fixture
def as_a_user() -> list[str]:
    """What makes modes count for a command."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may do everything here, and there is no setpriv")
    return _NO_OVERRIDE


CLOSED: dict[str, tuple[tuple[str, ...], str]] = {
    "the records of runs": (("store", "prune"), "runs"),
    "the store": (("store", "list"), "store"),
    "an artifact": (("store", "verify"), f"store/{KEY}"),
    "a file of an artifact": (("store", "verify"), f"store/{KEY}/weights"),
    "a manifest": (("store", "list"), f"store/{KEY}/manifest.json"),
}


@pytest.mark.parametrize(("words", "closed"), CLOSED.values(), ids=CLOSED)
def test_what_may_no_longer_be_read_is_told_and_nothing_is_lost(
    words: tuple[str, ...], closed: str, home: Path, as_a_user: list[str]
) -> None:
    mode = (home / closed).stat().st_mode
    (home / closed).chmod(0)
    try:
        refused = _ran([*as_a_user, COMMAND, *words], home)
    finally:
        (home / closed).chmod(mode)
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert "kawan-usaha: The system denies permission." in refused.stderr
    assert str(home / closed) in refused.stderr
    assert "Traceback" not in refused.stderr
    assert Store(home).verify() == {str(KEY): []}
    assert _ran([*as_a_user, COMMAND, *words], home).returncode == 0
    assert Store(home).verify() == {str(KEY): []}


def test_a_model_that_may_not_be_read_is_told_by_its_file(
    tmp_path: Path, as_a_user: list[str]
) -> None:
    closed = tiny_llama(tmp_path / "model", layers=1) / "model.safetensors"
    closed.chmod(0)
    refused = _ran([*as_a_user, COMMAND, "inspect", closed.parent], tmp_path / "home")
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert str(closed) in refused.stderr
    assert "ls -ld" in refused.stderr
    closed.chmod(0o644)
    assert _ran([*as_a_user, COMMAND, "inspect", closed.parent], tmp_path / "home").returncode == 0
