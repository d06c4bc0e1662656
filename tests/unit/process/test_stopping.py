"""Signals become an exception, and a stop that takes too long is cut short."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from tasks.core.process.stopping import Stopped, raised_when_stopped, stop_behind, stop_in_time

PROGRAM = """
import os, signal, sys, time
from tasks.core.process import stopping

def kill(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)

def swallow(*numbers):
    "What a library does that takes Ctrl-C for an error of its own."
    deadline = time.monotonic() + 600
    for number in numbers:
        try:
            kill(number)
            time.sleep(0.5)
        except KeyboardInterrupt:
            pass
    while time.monotonic() < deadline:
        time.sleep(1)

with stopping.stop_in_time(), stopping.raised_when_stopped():
    try:
        {body}
    except stopping.Stopped as stop:
        sys.exit(stop.exit_code)
time.sleep(3)
"""


def code_of(body: str, *, ignored: signal.Signals | None = None) -> int:
    """Run the program, with a signal ignored as its parent may do, and return its exit code."""

    def ignore() -> None:
        if ignored is not None:
            signal.signal(ignored, signal.SIG_IGN)

    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)],
        check=False,
        preexec_fn=ignore,
        timeout=300,
    )
    return ended.returncode


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_the_work_with_its_code(number: str, code: int) -> None:
    assert code_of(f"kill(signal.{number}); time.sleep(600)") == code


def test_ctrl_c_is_heard_also_where_it_was_ignored_at_the_start() -> None:
    assert code_of("kill(signal.SIGINT); time.sleep(600)", ignored=signal.SIGINT) == 130


def test_what_nohup_started_outlives_its_terminal() -> None:
    assert code_of("kill(signal.SIGHUP)", ignored=signal.SIGHUP) == 0


def test_work_that_swallows_the_stop_is_cut_short() -> None:
    assert code_of("stopping.WITHIN_S = 0.5; swallow(signal.SIGTERM)") == 143


def test_a_stop_is_cut_short_though_nobody_reads_its_output() -> None:
    nobody = "ends = os.pipe(); os.close(ends[0]); os.dup2(ends[1], 2)"
    assert code_of(f"stopping.WITHIN_S = 0.5; {nobody}; swallow(signal.SIGTERM)") == 143


def test_a_signal_that_is_repeated_gives_no_more_time() -> None:
    repeated = "swallow(*[signal.SIGTERM] * 1200)"  # each half a second after the one before
    assert code_of(f"stopping.WITHIN_S = 1; {repeated}") == 143


def test_a_second_ctrl_c_ends_at_once() -> None:
    assert code_of("stopping.WITHIN_S = 600; swallow(signal.SIGINT, signal.SIGINT)") == 130


def test_signals_of_others_are_none_of_its_business() -> None:
    body = "signal.signal(signal.SIGUSR1, lambda *_: None); stopping.WITHIN_S = 0; "
    assert code_of(body + "kill(signal.SIGUSR1); time.sleep(1)") == 0


def test_a_block_that_has_ended_in_time_is_not_cut_short() -> None:
    body = "stopping.WITHIN_S = 2; signal.signal(signal.SIGINT, lambda *_: None); "
    assert code_of(body + "kill(signal.SIGINT)") == 0


def test_outside_of_the_main_thread_nothing_is_watched() -> None:
    watched: list[int] = []

    def enter() -> None:
        with stop_in_time():
            watched.append(1)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert watched
    assert signal.set_wakeup_fd(-1) == -1


def test_handlers_are_what_they_were_after_the_block() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with raised_when_stopped(), pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_notes_of_every_exception_on_the_way_are_found_outermost_first() -> None:
    with pytest.raises(SystemExit) as ended:
        leave_with_notes()
    stop, notes = stop_behind(ended.value)
    assert str(stop) == "stopped by SIGTERM"
    assert notes == ["Interrupted stage: merge.", "Kept: one shard."]


def leave_with_notes() -> None:
    try:
        try:
            stop = KeyboardInterrupt()
            stop.add_note("Kept: one shard.")
            stop.add_note("Interrupted stage: merge.")
            raise stop
        except KeyboardInterrupt:
            raise Stopped(signal.SIGTERM) from None
    except Stopped as stop:
        raise SystemExit(143) from stop


def test_an_exit_without_a_stop_has_none_behind_it() -> None:
    assert stop_behind(SystemExit(0)) == (None, [])
