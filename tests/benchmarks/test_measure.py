"""What the benchmark says about a command is so."""

import sys
import time

import pytest

from tests.benchmarks.measure import evict, run

ALLOCATES = "import time; block = b'x' * 200_000_000; time.sleep(2)"


@pytest.mark.parametrize("shell", [[], ["bash", "-c", '"$@"; true', "bash"]], ids=["child", "tree"])
def test_memory_of_the_whole_tree_is_seen(tmp_path, shell):
    result = run([*shell, sys.executable, "-c", ALLOCATES], tmp_path / "log")
    assert 200e6 < result.peak_anonymous_bytes <= result.peak_bytes < 300e6


def test_wall_time_is_that_of_the_command(tmp_path):
    start = time.perf_counter()
    result = run(["sleep", "0.4"], tmp_path / "log")
    assert 0.4 <= result.wall_s <= time.perf_counter() - start


def test_a_failure_is_kept_with_its_last_words(tmp_path):
    result = run(["bash", "-c", "echo first; echo the reason; exit 3"], tmp_path / "log")
    assert (result.exit_code, result.last_words) == (3, "the reason")


def test_evicting_leaves_the_files_as_they_are(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    evict([tmp_path])
    assert (tmp_path / "file").read_bytes() == b"content"
