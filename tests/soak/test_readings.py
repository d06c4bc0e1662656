"""What the soak reads: whose each process is, what each file belongs to, what a run has taken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.prefect_server.local_prefect import PREFECT_MARK as PREFECT
from tasks.core.serving.supervision.processes import MARK as SERVING
from tests.soak.readings import Readings, _part, _role

RUN = "PREFECT__FLOW_RUN_ID"
NAME = "SUPERVISOR_PROCESS_NAME"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "serving" / "kawan").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("mark", "more", "role"),
    [
        (PREFECT, {}, "prefect's supervisord"),
        (PREFECT, {NAME: "server"}, "prefect server"),
        (PREFECT, {NAME: "kawan-gpu"}, "workers"),
        (PREFECT, {NAME: "kawan-gpu", RUN: "1"}, "flow run"),
        (SERVING, {}, "serving's supervisord"),
        (SERVING, {NAME: "gateway-1"}, "gateway"),
        (SERVING, {NAME: "green"}, "engine"),
        (SERVING, {NAME: "page", RUN: "1"}, "page"),
        ("OTHER", {NAME: "server"}, None),
    ],
)
def test_a_process_is_known_by_its_marks(
    home: Path, mark: str, more: dict[str, str], role: str | None
) -> None:
    value = home / "serving" / "kawan" if mark == SERVING else home / "prefect"
    assert _role({mark: str(value), **more}, home) == role
    assert _role({mark: "/another/home", **more}, home) is None


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("store/merge-1/config.json", "store"),
        ("prefect/prefect.db", "prefect database"),
        ("prefect/prefect.db-wal", "prefect database's log"),
        ("prefect/logs/server.log", "prefect's logs"),
        ("prefect/tmp/a/b", "temporary files"),
        ("prefect/memo_store.toml", "prefect"),
        ("serving/kawan/logs/page.log", "serving's logs"),
        ("serving/kawan/routes.json", "serving"),
        (".prefect.lock", "files beside them"),
    ],
)
def test_a_file_belongs_to_a_part(path: str, part: str) -> None:
    assert _part(path) == part


def test_what_a_run_has_taken_is_told_once_it_has_ended(home: Path) -> None:
    readings = Readings(home, {})
    code = "taken = b'x' * 50_000_000; print(flush=True); input()"
    run = subprocess.Popen(
        [sys.executable, "-S", "-c", code, "prefect.engine"],
        env={**os.environ, PREFECT: str(home / "prefect"), RUN: "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with run:
        assert run.stdout is not None
        run.stdout.readline()
        assert list(readings.ended_runs()) == []
        run.communicate(b"\n")
    (ended,) = readings.ended_runs()
    assert ended["peak/flow run"] > 50e6
    assert ended["threads/flow run"] == 1
    assert list(readings.ended_runs()) == []


def test_what_lies_on_the_disk_is_read_by_part(home: Path) -> None:
    (home / "store").mkdir()
    (home / "store" / "weights").write_bytes(b"1" * 1000)
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "cache").write_bytes(b"1" * 10)
    found = Readings(home / "store", {"cache": home / "elsewhere"}).now()
    assert (found["disk/files beside them"], found["files/files beside them"]) == (1000, 1)
    assert (found["disk/cache"], found["files/cache"]) == (10, 1)
