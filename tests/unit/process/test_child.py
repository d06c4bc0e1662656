import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tasks.core.errors import MissingTool
from tasks.core.process import Cause, is_running, run_child
from tasks.core.process.child import _SAMPLE_EVERY_S
from tasks.core.process.oom import OomWatch, oom_kills
from tasks.core.process.tree import Mark, environment_of
from tests.memory_group import memory_group

# A child whose own child outlives it, in a session of its own, deaf to SIGTERM.
LEAVES_A_STRAGGLER = """
import subprocess, sys, time
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
print(subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True).pid)
time.sleep(0.5)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-u", "-c", textwrap.dedent(code)]


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Stop(BaseException):
    pass


UNTIL_TOLD = """
import pathlib, time
def wait():
    while not pathlib.Path({go!r}).exists():
        print("waiting")
        time.sleep(0.05)
"""


def after_two_samples(go: Path) -> Callable[[str], None]:
    """Return a listener that lets the child go on once its tree must have been looked at twice."""
    first: list[float] = []

    def on_line(_: str) -> None:
        first.append(time.monotonic())
        if first[-1] - first[0] > 2 * _SAMPLE_EVERY_S:
            go.touch()

    return on_line


# --- how it ends -----------------------------------------------------------------------------


def test_a_program_that_does_not_exist_is_a_missing_tool() -> None:
    with pytest.raises(MissingTool, match="no-such-program"):
        run_child(["no-such-program"])


def test_an_error_code_is_told_from_success() -> None:
    assert run_child(python("pass")).cause is Cause.FINISHED
    failed = run_child(python("raise SystemExit(3)"))
    assert (failed.cause, failed.returncode, failed.succeeded) == (Cause.ERROR, 3, False)


def test_a_kill_by_somebody_else_is_a_signal() -> None:
    killed = run_child(python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert (killed.cause, killed.returncode) == (Cause.SIGNAL, -signal.SIGKILL)


def test_the_time_limit_ends_the_child() -> None:
    result = run_child(python("import time; time.sleep(600)"), timeout_s=0.3)
    assert result.cause is Cause.TIMEOUT
    assert result.wall_s < 600


@pytest.fixture
def group() -> Iterator[Path]:
    with memory_group(64 << 20) as path:
        yield path


EATS_MEMORY = """
import sys
pathlib.Path({procs!r}).write_text("0")
wait()
if {worker}:
    import subprocess
    sys.exit(subprocess.call([sys.executable, "-c", "b = bytearray(256 << 20)"]) & 0xff)
eaten = bytearray(256 << 20)
"""


@pytest.mark.parametrize("worker", [False, True])
def test_a_kill_for_want_of_memory_is_told_from_any_other(
    group: Path, worker: bool, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    eats = EATS_MEMORY.format(procs=str(group / "cgroup.procs"), worker=worker)
    program = UNTIL_TOLD.format(go=str(go)) + eats
    result = run_child(python(program), on_line=after_two_samples(go))
    assert result.cause is Cause.OUT_OF_MEMORY
    assert result.returncode == (247 if worker else -signal.SIGKILL)


def test_counters_of_both_versions_are_read(tmp_path: Path) -> None:
    v2, v1 = tmp_path / "memory.events", tmp_path / "memory.oom_control"
    v2.write_text("low 0\nhigh 4\nmax 12\noom 3\noom_kill 2\noom_group_kill 9\n")
    v1.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    assert (oom_kills(v2), oom_kills(v1), oom_kills(tmp_path / "gone")) == (2, 5, None)


def test_nothing_is_counted_where_nothing_was_killed() -> None:
    watch = OomWatch()
    watch.add(os.getpid())
    assert watch.kills() == 0


def test_the_child_is_the_kernels_first_choice() -> None:
    ours = Path("/proc/self/oom_score_adj").read_text()
    waits = """
    import time
    while open("/proc/self/oom_score_adj").read() != "1000\\n":
        time.sleep(0.01)
    """
    assert run_child(python(waits), timeout_s=600).cause is Cause.FINISHED
    assert Path("/proc/self/oom_score_adj").read_text() == ours


# --- nobody stays behind ---------------------------------------------------------------------


def test_a_straggler_is_ended_with_the_child() -> None:
    result = run_child(python(LEAVES_A_STRAGGLER), grace_s=0.2)
    assert result.succeeded
    assert not runs(int(result.tail[0]))


@pytest.mark.parametrize("stop", [Stop, KeyboardInterrupt, RuntimeError])
def test_an_exception_ends_the_whole_tree(stop: type[BaseException]) -> None:
    pids: list[int] = []

    def note_and_stop(line: str) -> None:
        pids.extend(int(pid) for pid in line.split())
        raise stop

    code = """
    import os, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(os.getpid(), child.pid)
    time.sleep(600)
    """
    with pytest.raises(stop):
        run_child(python(code), on_line=note_and_stop)
    assert len(pids) == 2
    assert not any(runs(pid) for pid in pids)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_the_child_is_silent_ends_it() -> None:
    interrupt = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        interrupt.start()
        run_child(python("import time; time.sleep(600)"), env={**os.environ, "TEST_SILENT": "yes"})
    assert not is_running("TEST_SILENT", "yes")


OWNER = """
import sys
from tasks.core.process import run_child
run_child([sys.executable, "-c", sys.argv[1]], on_line=lambda line: print(line, flush=True))
"""


def test_the_tree_ends_when_the_caller_is_killed() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, LEAVES_A_STRAGGLER.replace("0.5", "600")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    straggler = psutil.Process(int(owner.stdout.readline()))
    family = [straggler, *psutil.Process(owner.pid).children(recursive=True)]
    assert len(family) >= 3, "the child, its straggler and the guard"
    owner.kill()
    owner.wait()
    _, alive = psutil.wait_procs(family, timeout=120)
    assert not alive


@pytest.mark.usefixtures("interruptible")
def test_the_tree_ends_though_a_second_signal_cuts_short_its_end() -> None:
    """Somebody presses Ctrl-C twice: the second one must not leave the child behind."""
    pids: list[int] = []

    def interrupt_twice(line: str) -> None:
        pids.append(int(line))
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        raise KeyboardInterrupt

    deaf = """
    import os, signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid())
    time.sleep(600)
    """
    with pytest.raises(KeyboardInterrupt):
        run_child(python(deaf), on_line=interrupt_twice)
    assert not runs(pids[0])


def test_a_running_process_is_found_by_its_environment(tmp_path: Path) -> None:
    go, found = tmp_path / "go", []

    def look(_: str) -> None:
        found.append(is_running("TEST_FOUND", "yes"))
        go.touch()

    waits = UNTIL_TOLD.format(go=str(go)) + "wait()"
    run_child(python(waits), env={**os.environ, "TEST_FOUND": "yes"}, on_line=look)
    assert found[0]
    assert not is_running("TEST_FOUND", "yes")


# --- what is seen ----------------------------------------------------------------------------


_TITLED = """
import ctypes, sys
environ = ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "environ")
ctypes.memset(environ[0], 0, len("FIRST=one"))
print("titled", flush=True)
sys.stdin.read()
"""


def test_a_process_that_gave_itself_a_title_is_found_by_its_environment() -> None:
    """A title clears the first variables; psutil then says that there are none."""
    env = {"FIRST": "one", "KAWAN_USAHA_TITLED": "yes"}
    argv = [sys.executable, "-S", "-c", _TITLED]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=env, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"titled\n"
        assert psutil.Process(process.pid).environ() == {}
        (found,) = Mark("KAWAN_USAHA_TITLED", "yes").processes()
        assert found.pid == process.pid
        process.kill()


def test_a_process_is_known_while_the_kernel_loads_its_program() -> None:
    """Meanwhile it shows neither arguments nor an environment."""
    argv = ["sh", "-c", "echo ready; read go; exec sleep 600"]
    pipe = subprocess.PIPE
    for _ in range(30):
        with subprocess.Popen(argv, env={"MARKED": "yes"}, stdin=pipe, stdout=pipe) as started:
            assert started.stdin is not None
            assert started.stdout is not None
            assert started.stdout.readline() == b"ready\n"
            process = psutil.Process(started.pid)
            started.stdin.close()
            known = []
            while process.name() != "sleep" or len(known) < 100:
                known.append(environment_of(process).get("MARKED") == "yes")
            started.kill()
        assert all(known)


def test_last_words_without_an_end_are_heard_though_a_stranger_holds_the_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process without our mark and in a session of its own is none that we know of."""
    monkeypatch.setattr("tasks.core.process.lines._REST_WITHIN_S", 0.2)
    code = """
    import subprocess, sys
    stranger = subprocess.Popen(["sleep", "600"], env={}, start_new_session=True)
    sys.stdout.write(f"{stranger.pid}\\nlast words")
    """
    result = run_child(python(code))
    pid, *words = result.tail
    os.kill(int(pid), signal.SIGKILL)
    assert words == ["last words"]


def test_lines_are_seen_while_the_child_runs(tmp_path: Path) -> None:
    """The child ends only once its first line was seen."""
    go = tmp_path / "go"
    waits = UNTIL_TOLD.format(go=str(go)) + "wait()"
    result = run_child(python(waits), on_line=lambda _: go.touch(), timeout_s=600)
    assert result.cause is Cause.FINISHED


def test_progress_bars_errors_and_broken_bytes_are_lines_too() -> None:
    code = r"""
    import sys
    sys.stdout.buffer.write(b"1%\r2%\r\nhalf \xc3"); sys.stdout.flush()
    sys.stdout.buffer.write(b"\xa9 \xff\n"); sys.stdout.flush()
    sys.stderr.write("last words")
    """
    assert run_child(python(code)).tail == ("1%", "2%", "half é \ufffd", "last words")


def test_all_of_a_long_output_is_seen() -> None:
    lines: list[str] = []
    code = "for i in range(50_000): print(i)"
    result = run_child(python(code), on_line=lines.append)
    assert lines == [str(i) for i in range(50_000)]
    assert result.tail == tuple(lines[-200:])


def test_directory_and_environment_are_those_given(tmp_path: Path) -> None:
    code = "import os; print(os.getcwd(), os.environ['ONLY'], 'HOME' in os.environ)"
    result = run_child(python(code), env={"ONLY": "this"}, cwd=tmp_path)
    assert result.tail == (f"{tmp_path} this False",)


def test_peak_memory_includes_the_childrens(tmp_path: Path) -> None:
    go = tmp_path / "go"
    holds = f"b = b'x' * (200 << 20)\n{UNTIL_TOLD.format(go=str(go))}wait()"
    code = f"import subprocess, sys; subprocess.call([sys.executable, '-u', '-c', {holds!r}])"
    result = run_child(python(code), on_line=after_two_samples(go))
    assert 200 << 20 < result.peak_memory_bytes < 400 << 20
