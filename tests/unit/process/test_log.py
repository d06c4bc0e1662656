"""The whole output of a program in its log, and what of it a person is shown."""

import sys
import textwrap
from pathlib import Path

import pytest

from tasks.core.home import PROJECT
from tasks.core.process import run_child
from tasks.core.process.log import KEPT_LOGS, LONG_BYTES, bounded, new_log
from tasks.core.process.said import only_said


def python(code: str) -> list[str]:
    return [sys.executable, "-u", "-c", textwrap.dedent(code)]


def test_the_whole_output_is_in_the_log_and_only_what_is_said_is_handed_on(tmp_path: Path) -> None:
    code = """
import warnings
from tasks.core.process.said import say
print("[INFO] [runner.py] world_info=eyJsb2NhbGhvc3QiOiBbMF19")
say("step 1 of 2")
warnings.warn("deprecated", FutureWarning)
"""
    heard: list[str] = []
    log = tmp_path / "logs" / "stage.log"
    result = run_child(python(code), cwd=PROJECT, on_line=only_said(heard.append), log=log)
    assert heard == ["step 1 of 2"]
    assert result.log == log
    for line in ("world_info=", "step 1 of 2", "FutureWarning: deprecated"):
        assert line in log.read_text()


def test_a_second_program_goes_on_in_the_same_log(tmp_path: Path) -> None:
    log = tmp_path / "stage.log"
    for word in ("first", "second"):
        run_child(["echo", word], log=log)
    assert [line for line in log.read_text().splitlines() if " " not in line] == ["first", "second"]


@pytest.mark.parametrize("place", ["/dev/full", "/proc/none/stage.log"])
def test_a_log_that_cannot_be_written_fails_nothing(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    result = run_child(python("print('a'); print('b')"), log=Path(place))
    assert result.succeeded
    assert result.tail == ("a", "b")
    assert [r.message for r in caplog.records if "cannot be written" in r.message] != []


def test_the_oldest_logs_of_a_name_make_room(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"finetune-20250101-0000{number:02}.log").touch()
    (tmp_path / "evaluate-20250101-000000.log").touch()
    new = new_log(tmp_path, "finetune")
    new.touch()
    assert len(list(tmp_path.glob("finetune-*.log"))) == KEPT_LOGS
    assert (tmp_path / "evaluate-20250101-000000.log").exists()
    assert (tmp_path / "finetune-20250101-000029.log").exists()


def test_a_file_that_is_added_to_for_ever_stays_below_twice_its_bound(tmp_path: Path) -> None:
    line = "x" * (LONG_BYTES // 10) + "\n"
    for number in range(60):
        with bounded(tmp_path / "incidents.jsonl").open("a") as file:
            file.write(f"{number} {line}")
        total = sum(path.stat().st_size for path in tmp_path.iterdir())
        assert total <= 2 * (LONG_BYTES + len(line) + 3)
    assert (tmp_path / "incidents.jsonl").read_text().splitlines()[-1].startswith("59 ")
    assert {path.name for path in tmp_path.iterdir()} == {"incidents.jsonl", "incidents.jsonl.1"}
