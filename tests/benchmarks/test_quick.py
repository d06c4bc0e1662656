"""The quick benchmarks say what got slower, and what did not run."""

import subprocess
import sys

import pytest

from tests.benchmarks import quick
from tests.benchmarks.load_record import Answer, answers, append, percentiles, tokens_per_s


def test_a_row_that_takes_longer_than_noise_can_explain_is_slower():
    slower, steady = quick.compared({"fuse": 1.5, "hash": 1.1}, {"fuse": 1.0, "hash": 1.0})
    assert slower.bad
    assert "SLOWER" in str(slower)
    assert not steady.bad


def test_a_row_that_was_kept_and_is_not_measured_any_more_is_bad():
    (gone,) = quick.compared({}, {"fuse": 1.0})
    assert gone.bad
    assert "not measured" in str(gone)


def test_a_new_row_is_not_bad():
    (new,) = quick.compared({"upload": 0.9}, {})
    assert not new.bad


@pytest.mark.parametrize(
    ("program", "ratios"),
    [
        ('print(\'{"row": "fuse", "ratio": 1.25}\')', {"fuse": 1.25}),
        ('print(\'{"row": "fuse", "ratio": 1.25}\'); raise SystemExit(3)', {}),
    ],
    ids=["ended", "failed"],
)
def test_a_benchmark_counts_only_when_it_ran_to_its_end(monkeypatch, program, ratios):
    real = subprocess.run
    command = [sys.executable, "-c", program]
    monkeypatch.setattr(quick.subprocess, "run", lambda _, **options: real(command, **options))
    assert quick.measured("bench_weights") == ratios


def test_throughput_counts_the_time_in_which_only_some_clients_still_wait(tmp_path):
    record = tmp_path / "answers.jsonl"
    append(record, Answer(0.0, 1.0, 10.0, 50, None))
    append(record, Answer(0.0, 11.0, 20.0, 50, None))
    assert tokens_per_s(answers(record)) == 5.0


def test_percentiles_are_times_of_answers():
    assert percentiles([float(second) for second in range(1, 101)]) == (51.0, 96.0, 100.0)
