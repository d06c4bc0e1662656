"""Whatever a command ends with: words and an exit code, and the traceback only where it belongs."""

import errno
import http.server
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.command_line import text_input as words
from flows.prefect_server.temporary_server import _output, start_temporary_server
from flows.terminal import boundary
from flows.terminal.boundary import DEBUG_VARIABLE, READER_GONE, report_error
from flows.terminal.run_log import run_shown
from tasks.core.errors import DiskFull, PrefectUnavailable, UsageError
from tasks.core.process.ports import free_port
from tests.command_line import Run

COMMAND = Path(sys.executable).with_name("kawan-usaha")


pytestmark = pytest.mark.usefixtures("home")


class Panic(BaseException):
    """What a library in Rust raises when it fails: no Exception at all."""


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `store list` end with this."""

    def raises(_: object) -> None:
        raise error

    monkeypatch.setattr("tasks.core.store.Store.artifacts", raises)


UNKNOWN = [
    ValueError("no\nsuch thing"),
    KeyError("a"),
    AssertionError(),
    EOFError("Ran out of input"),
    RecursionError(),
    Panic("called `Option::unwrap()` on a `None` value"),
    BrokenPipeError(errno.EPIPE, "the pipe of some child"),
]


@pytest.mark.parametrize("error", UNKNOWN, ids=lambda error: type(error).__name__)
def test_a_fault_of_the_program_is_one_error_and_a_file(
    run: Run, monkeypatch: pytest.MonkeyPatch, home: Path, error: BaseException
) -> None:
    error.add_note("Stage: merge.")
    failing(monkeypatch, error)
    code, out, err = run("store", "list")
    assert code == 1
    assert out == ""
    assert "Traceback" not in err
    assert "bug in kawan-usaha" in err
    assert "kawan-usaha store Stage: merge." in err
    assert type(error).__name__ in err
    (log,) = (home / "logs" / "commands").glob("error-*.log")
    assert str(log) in err
    assert "Traceback" in log.read_text()
    assert "store list" in log.read_text()


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (errno.EACCES, "denies permission"),
        (errno.ENOSPC, "full"),
        (errno.EMFILE, "Too many open files"),
    ],
)
def test_what_the_system_refuses_is_explained_and_its_traceback_kept(
    run: Run, monkeypatch: pytest.MonkeyPatch, home: Path, number: int, what: str
) -> None:
    failing(monkeypatch, OSError(number, os.strerror(number), str(home / "store" / "a")))
    code, _, err = run("store", "list")
    assert code == 1
    assert what in err
    assert "bug in kawan-usaha" not in err
    assert "Traceback" not in err
    (log,) = (home / "logs" / "commands").glob("error-*.log")
    assert str(log) in err


def test_a_full_disk_that_is_explained_already_needs_no_log(
    run: Run, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    (home / "store").mkdir(parents=True)
    failing(monkeypatch, DiskFull("The disk is full."))
    code, _, err = run("store", "list")
    assert (code, "traceback" in err) == (1, False)
    assert not (home / "logs").exists()


def test_an_error_that_says_what_to_do_needs_no_log(run: Run, home: Path) -> None:
    assert run("inspect", "nowhere at all")[0] == 2
    assert not (home / "logs").exists()


@pytest.mark.parametrize("debugged", [("--debug", "store", "list"), ("store", "list", "--debug")])
def test_debug_shows_the_traceback_wherever_it_stands(
    run: Run, monkeypatch: pytest.MonkeyPatch, debugged: tuple[str, ...]
) -> None:
    failing(monkeypatch, ValueError("no such thing"))
    code, _, err = run(*debugged)
    assert code == 1
    assert "Traceback" in err
    assert "in raises" in err
    assert "bug in kawan-usaha" in err


def test_debug_shows_where_an_explained_error_came_from(run: Run) -> None:
    code, _, err = run("inspect", "nowhere at all", "--debug")
    assert code == 2
    assert "Traceback" in err
    assert "Check the path." in err


def test_debug_by_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ValueError("no such thing"))
    monkeypatch.setattr("tests.command_line.DEBUG_VARIABLE", "UNUSED")  # what `run` empties
    monkeypatch.setenv(DEBUG_VARIABLE, "1")
    assert "Traceback" in run("store", "list")[2]
    monkeypatch.setenv(DEBUG_VARIABLE, "0")
    assert "Traceback" not in run("store", "list")[2]


def test_a_program_gets_json_for_a_fault_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ValueError("no such thing"))
    told = json.loads(run("store", "list", "--json")[1])
    assert told["error"] == "Unexpected"
    assert told["found"] == "ValueError: no such thing"


def test_what_a_url_tells_is_in_no_log_and_in_no_report(
    run: Run, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    failing(monkeypatch, ValueError("no s3://key:pass@host/a, no 'https://cdn/b?Signature=sig'"))
    _, _, err = run("store", "list")
    (log,) = (home / "logs" / "commands").glob("error-*.log")
    for said in (err, log.read_text()):
        assert "s3://…@host/a, no 'https://cdn/b?…'" in said
        assert "pass" not in said
        assert "sig'" not in said


@pytest.mark.parametrize("rollback", [(), ("--rollback", "v1")])
def test_a_place_with_a_password_is_refused_without_repeating_it(
    run: Run, tmp_path: Path, rollback: tuple[str, ...]
) -> None:
    code, out, err = run("publish", str(tmp_path), "nokind://key:pass@host/models", *rollback)
    assert code != 0
    assert "pass@" not in out + err


@pytest.mark.parametrize("words", [("--json",), ()])
def test_an_output_that_takes_nothing_changes_no_exit_code(
    home: Path, words: tuple[str, ...]
) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [str(COMMAND), "rebuild", "dmeo", *words],
            stdout=full,
            stderr=subprocess.PIPE if words else full,
            env={**os.environ, "KAWAN_USAHA_HOME": str(home)},
            check=False,
            timeout=300,
        )
    assert ended.returncode == 2
    if words:
        assert b"Did you mean demo" in ended.stderr


def test_a_home_that_cannot_be_written_hides_no_error(
    run: Run, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    home.write_text("a file")
    failing(monkeypatch, ValueError("no such thing"))
    code, _, err = run("store", "list")
    assert code == 1
    assert "no such thing" in err
    assert "--debug" in err


def test_a_thread_that_fails_shows_no_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    def fails_beside(_: object) -> list[object]:
        def fails() -> None:
            raise ValueError("in a thread")

        thread = threading.Thread(target=fails)
        thread.start()
        thread.join()
        return []

    monkeypatch.setattr("tasks.core.store.Store.artifacts", fails_beside)
    code, out, err = run("store", "list")
    assert code == 0
    assert "Traceback" not in out + err
    (log,) = (home / "logs" / "commands").glob("error-*.log")
    assert "in a thread" in log.read_text()


def test_the_log_of_a_run_keeps_what_ends_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ZeroDivisionError), run_shown("demo", quiet=False):
        _ = 1 / 0
    (log,) = (home / "logs" / "demo").glob("rebuild-*.log")
    assert "Traceback" in log.read_text()
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("asked", [("--help",), ("store", "list"), ("stop", "nobody")])
def test_a_reader_that_goes_away_ends_it_quietly(asked: tuple[str, ...], home: Path) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    ended = subprocess.run(
        [str(COMMAND), *asked],
        stdout=writes,
        stderr=writes if asked[0] == "stop" else subprocess.PIPE,
        env={**os.environ, "KAWAN_USAHA_HOME": str(home)},
        check=False,
        timeout=300,
    )
    os.close(writes)
    assert ended.returncode == READER_GONE
    assert not ended.stderr


# --- the outputs of commands -------------------------------------------------------------------

FILES = {
    "report": ("evaluate", "nowhere at all", "--report"),
    "picture": ("data", "check", "nowhere.json", "--picture"),
}
DIRECTORIES = {
    "download": ("download", "nowhere at all"),
    "merge": ("merge", "nowhere at all", "nowhere at all"),
    "edit": ("edit", "nowhere at all"),
    "fuse": ("fuse", "nowhere at all", "nowhere"),
    "finetune": ("finetune", "nowhere at all", "nowhere.json"),
}


@pytest.mark.parametrize("command", FILES.values(), ids=FILES.keys())
@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("missing/a.out", "mkdir -p"),
        ("directory", "a directory"),
        ("file/a.out", "a file in place of its directory"),
    ],
)
def test_a_file_that_could_not_be_written_is_told_before_anything_is_read(
    run: Run, tmp_path: Path, command: tuple[str, ...], place: str, found: str
) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    code, out, err = run(*command, place)
    assert code == 2
    assert "output file cannot be written" in err
    assert found in err
    assert "Traceback" not in out + err


@pytest.mark.parametrize("command", DIRECTORIES.values(), ids=DIRECTORIES.keys())
@pytest.mark.parametrize(
    ("place", "what"), [("taken", "exists already"), ("file/out", "cannot be created")]
)
def test_a_directory_that_could_not_be_made_is_told_before_anything_is_read(
    run: Run, tmp_path: Path, command: tuple[str, ...], place: str, what: str
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "precious").touch()
    (tmp_path / "file").touch()
    code, _, err = run(*command, place)
    assert code == 2
    assert what in err


# --- what is typed -----------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"caf\xe9\n", b"\xff\xfeh\x00i\x00\n", b"\x80\n"])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_question_that_is_not_utf_8_is_told(
    monkeypatch: pytest.MonkeyPatch, raw: bytes, errors: str
) -> None:
    typed = io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8", errors=errors)
    monkeypatch.setattr("sys.stdin", typed)
    with pytest.raises(UsageError, match="not UTF-8") as told:
        words.read_line("> ")
    assert "iconv" in str(told.value.next_step)


def test_the_end_of_the_input_is_no_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(" kafé \n"))
    assert [words.read_line("> "), words.read_line("> ")] == ["kafé", ""]


@pytest.mark.parametrize(
    "command",
    [
        ("chat", "--once", "{}"),
        ("chat", "--system", "{}"),
        ("rebuild", "demo", "--override-gate", "{}"),
    ],
)
def test_words_of_an_option_that_are_not_utf_8_are_told(run: Run, command: tuple[str, ...]) -> None:
    not_utf_8 = os.fsdecode(b"caf\xe9")
    code, out, err = run(*(word.format(not_utf_8) for word in command))
    assert code == 2
    assert "not UTF-8" in err
    assert "Traceback" not in out + err


@pytest.mark.parametrize("limit", ["0", "-3"])
def test_an_answer_of_no_tokens_is_wrong_usage(run: Run, limit: str) -> None:
    code, _, err = run("chat", "--max-tokens", limit)
    assert code == 2
    assert "--max-tokens" in err


# --- Prefect -----------------------------------------------------------------------------------


@pytest.fixture
def answering(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that answers every request with the status of the parameter."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


@pytest.mark.parametrize("form", ["http://127.0.0.1:{}/api", "localhost:{}"])
def test_a_prefect_server_that_is_not_there_is_told_before_a_run_begins(form: str) -> None:
    address = form.format(free_port())
    with (
        temporary_settings({PREFECT_API_URL: address}),
        pytest.raises(PrefectUnavailable) as told,
    ):
        start_temporary_server()
    assert address in str(told.value.where)
    assert "PREFECT_API_URL" in str(told.value.next_step)


@pytest.mark.parametrize("answering", [401, 500], indirect=True)
def test_a_prefect_server_that_refuses_is_told_before_a_run_begins(answering: str) -> None:
    settings = {PREFECT_API_URL: answering, PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(settings), pytest.raises(PrefectUnavailable, match="HTTP"):
        start_temporary_server()


@pytest.mark.parametrize("answering", [200], indirect=True)
def test_a_prefect_server_that_answers_is_used(answering: str) -> None:
    with temporary_settings({PREFECT_API_URL: answering}):
        start_temporary_server()()
        assert PREFECT_API_URL.value() == answering


def test_what_the_temporary_server_prints_is_in_a_log_or_nowhere(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for log in (tmp_path / "logs" / "server.log", tmp_path / "file" / "server.log"):
        with _output(log) as output:
            output.write(b"Traceback")
    assert (tmp_path / "logs" / "server.log").read_bytes() == b"Traceback"


def test_a_dead_server_ends_the_command_with_one_error(run: Run) -> None:
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        code, out, err = run("rebuild", "demo", "--until", "plan")
    assert code == 1
    assert "prefect server start" in err
    assert "unset PREFECT_API_URL" in err
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    "failure",
    [
        MemoryError(),
        ImportError("libsqlite3.so.0: failed to map segment from shared object"),
    ],
)
def test_what_tells_an_error_and_finds_no_memory_says_that(
    failure: Exception, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(_: object) -> None:
        raise failure

    monkeypatch.setattr(boundary, "_print", fails)
    assert report_error(UsageError("Wrong.")) == 1
    assert capfd.readouterr().err == "kawan-usaha: This machine ran out of memory.\n"


def test_another_failure_in_what_tells_an_error_is_not_taken_for_want_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_: object) -> None:
        raise ImportError("cannot import name 'Console'")

    monkeypatch.setattr(boundary, "_print", fails)
    with pytest.raises(ImportError, match="Console"):
        report_error(UsageError("Wrong."))
