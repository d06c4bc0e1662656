import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count, islice
from pathlib import Path

import psutil
import pytest

from tasks.core.errors import DataError, WorkerLost
from tasks.core.process.crew import computed

ROOT = Path(__file__).parents[3]


def square(number: int) -> int:
    time.sleep(0.02 * (number % 3))  # the later ones are often ready first
    return number * number


def refuse_three(number: int) -> int:
    if number == 3:
        raise DataError("Three cannot be used.", where="here")
    return number


def die_of_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def not_picklable(number: int) -> object:
    return lambda: number


class Loaded:
    def __init__(self) -> None:
        self.loaded = 0

    def load(self) -> None:
        self.loaded += 1

    def __call__(self, number: int) -> tuple[int, int]:
        return self.loaded, os.getpid()


class Unloadable(Loaded):
    def load(self) -> None:
        raise DataError("Nothing can be loaded.")


def children() -> list[psutil.Process]:
    """Return this module's processes; other tests have left servers beside them."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # ended in between
            if "crew_member" in " ".join(each.cmdline()):
                found.append(each)
    return found


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        (refuse_three, DataError, "Three cannot be used"),
        (die_of_three, WorkerLost, "signal SIGKILL"),
        (not_picklable, WorkerLost, "code 1"),
        (Unloadable(), DataError, "Nothing can be loaded"),
    ],
)
def test_what_goes_wrong_in_a_process_is_told_and_nothing_is_left(
    function: Callable[[int], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        list(computed(function, range(100), processes=2))
    assert children() == []


def test_results_come_in_the_order_of_the_items() -> None:
    assert list(computed(square, range(30), processes=3)) == [n * n for n in range(30)]
    assert children() == []


def test_one_process_is_this_one() -> None:
    ((_, pid),) = computed(Loaded(), [1], processes=1)
    assert pid == os.getpid()


def test_what_all_need_is_loaded_once_before_they_divide() -> None:
    told = list(computed(Loaded(), range(40), processes=2))
    assert {loaded for loaded, _ in told} == {1}
    assert len({pid for _, pid in told}) == 2


def test_items_are_taken_only_as_far_ahead_as_they_are_needed() -> None:
    items = count()
    assert list(islice(computed(square, items, processes=2), 5)) == [0, 1, 4, 9, 16]
    assert next(items) < 15
    assert children() == []


def test_a_caller_that_goes_on_without_the_rest_leaves_no_process() -> None:
    results = computed(square, count(), processes=2)
    next(results)
    give_up = time.monotonic() + 600
    while len(children()) < 3:  # the second may still be about to start
        assert time.monotonic() < give_up
        time.sleep(0.01)
    results.close()
    assert children() == []


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_caller_that_is_stopped_takes_its_processes_with_it(stop: signal.Signals) -> None:
    program = (
        "from itertools import count; from tests.unit.process.test_crew import square;"
        "from tasks.core.process.crew import computed\n"
        "for each in computed(square, count(), processes=2): print(each, flush=True)"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert caller.stdout is not None
    assert caller.stdout.readline() == b"0\n"
    crew = psutil.Process(caller.pid).children(recursive=True)
    caller.send_signal(stop)
    caller.stdout.close()
    caller.wait()
    assert psutil.wait_procs(crew, timeout=600)[1] == []
