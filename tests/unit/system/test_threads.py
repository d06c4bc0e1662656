"""Threads that stop together."""

import contextvars
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tasks.core.system.threads import Interrupted, pause, run_all


class Boom(Exception):
    pass


def nothing() -> None:
    pass


def of_these_tests() -> list[str]:
    """Return the threads that these tests have begun and that have not ended."""
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if name.startswith(("test-", "inner-"))]


@pytest.fixture(autouse=True)
def _threads_have_all_the_time_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.core.system.threads.GRACE_S", 600.0)


def test_results_stand_in_the_order_of_the_calls() -> None:
    def call(number: int) -> int:
        time.sleep(0.01 * (5 - number))
        return number

    calls = [lambda number=number: call(number) for number in range(5)]
    assert run_all(calls, threads=5, name="test", stop=nothing) == list(range(5))


def test_the_first_error_is_raised_and_not_one_that_followed_from_it() -> None:
    stopped = threading.Event()

    def fail() -> None:
        raise Boom

    def follow() -> None:
        stopped.wait()
        raise RuntimeError("follows from the first")

    with pytest.raises(Boom):
        run_all([follow, fail, follow], threads=3, name="test", stop=stopped.set)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_stop_that_fails_itself_keeps_nobody_waiting() -> None:
    def fail() -> None:
        raise Boom

    def stop() -> None:
        raise OSError("the file is closed already")

    with pytest.raises(Boom):
        run_all([fail], threads=1, name="test", stop=stop)


def test_after_an_error_no_further_call_begins() -> None:
    begun = []

    def fail() -> None:
        raise Boom

    with pytest.raises(Boom):
        run_all([fail, lambda: begun.append(1)], threads=1, name="test", stop=nothing)
    assert not begun


def test_threads_have_the_context_of_the_caller() -> None:
    variable = contextvars.ContextVar("variable", default="none")
    variable.set("the caller's")
    assert run_all([variable.get] * 2, threads=2, name="test", stop=nothing) == [
        "the caller's",
        "the caller's",
    ]


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_stops_the_threads_and_is_raised() -> None:
    stopped = threading.Event()

    def wait_for_the_stop() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert stopped.wait(60)

    with pytest.raises(KeyboardInterrupt):
        run_all([wait_for_the_stop], threads=1, name="test", stop=stopped.set)
    assert not of_these_tests()


HANGS = """
import os, signal, threading
from tasks.core.system.threads import Interrupted, pause, run_all
signal.signal(signal.SIGINT, signal.default_int_handler)
def hang():
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait()
run_all([hang], threads=1, name="hangs", stop=lambda: None)
"""


def test_a_thread_that_hangs_does_not_keep_an_interrupted_program_alive() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGS], check=False, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in ended.stderr


def _inner(begun: threading.Event, ended: threading.Event) -> None:
    """Divide work that goes on until it is told to stop among threads of one's own."""
    stop = threading.Event()

    def work() -> None:
        begun.set()
        assert stop.wait(60)
        ended.set()

    run_all([work], threads=1, name="inner", stop=stop.set)


def test_an_error_ends_what_the_others_have_divided_among_threads_of_their_own() -> None:
    begun, ended = threading.Event(), threading.Event()

    def fail() -> None:
        begun.wait(60)
        raise Boom

    with pytest.raises(Boom):
        run_all([lambda: _inner(begun, ended), fail], threads=2, name="test", stop=nothing)
    assert ended.is_set(), "before the error was raised"
    assert not of_these_tests()


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_reaches_the_threads_of_threads() -> None:
    begun, ended = threading.Event(), threading.Event()

    def interrupt() -> None:
        begun.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as told:
        run_all([lambda: _inner(begun, ended), interrupt], threads=2, name="test", stop=nothing)
    assert type(told.value) is KeyboardInterrupt, "the first, not one that followed from it"
    assert ended.is_set()


def test_a_pause_ends_with_the_work_that_it_belongs_to() -> None:
    interrupted = []

    def wait() -> None:
        try:
            pause(60)
        except Interrupted as error:
            interrupted.append(error)
            raise

    def fail() -> None:
        raise Boom

    with pytest.raises(Boom):
        run_all([wait, fail], threads=2, name="test", stop=nothing)
    assert interrupted


def test_work_that_is_divided_after_the_end_has_come_is_ended_at_once() -> None:
    failed, begun, ended = threading.Event(), threading.Event(), threading.Event()

    def late() -> None:
        failed.wait(60)
        _inner(begun, ended)

    with pytest.raises(Boom):
        run_all([late, lambda: _fail_then(failed)], threads=2, name="test", stop=nothing)
    assert ended.is_set() or not begun.is_set()


def _fail_then(failed: threading.Event) -> None:
    threading.Timer(0.05, failed.set).start()
    raise Boom
