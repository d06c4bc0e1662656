"""`kawan-usaha chat` of a deployment on record, whose gateway is scripted."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tasks.core.recipe import Deploy
from tasks.core.serving.state.directory import state_directory
from tests.deployments import deployment, put_on_record
from tests.models import tiny_llama
from tests.unit.serving.gateway.world import ROOT, free_port, until
from tests.unit.serving.page.world import Scripted


@pytest.fixture
def home(tmp_path: Path, scripted: Scripted) -> Path:
    model = tiny_llama(tmp_path / "model")
    state = state_directory(tmp_path, "kawan")
    settings = Deploy.model_validate({"gateway": {"port": scripted.port}})
    put_on_record(state, deployment(state, model=model, settings=settings))
    return tmp_path


Command = subprocess.Popen[str]


@pytest.fixture
def start(home: Path) -> Iterator[object]:
    started: list[Command] = []

    def one(*words: str, **options: object) -> Command:
        program = "from flows.cli import main; main()"
        command = subprocess.Popen(
            [sys.executable, "-c", program, "chat", *words],
            env=os.environ | {"KAWAN_USAHA_HOME": str(home), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        started.append(command)
        return command

    yield one
    for command in started:
        command.kill()
        command.communicate()


def test_a_question_that_is_too_long_does_not_end_the_talk(start, scripted):
    too_long = {"text": "x", "status": 400, "code": "context_length_exceeded"}
    scripted.answers("baik", too_long, too_long, "lagi")
    out, err = start().communicate("satu\ndua panjang\ntiga\n", timeout=300)
    assert "baik" in out
    assert "lagi" in out
    assert "oldest question and its answer are left out" in err
    assert "This question alone is longer than the model's context. Use fewer words" in err


def test_a_busy_server_does_not_end_the_talk(start, scripted):
    scripted.answers({"text": "x", "status": 429, "retry_after": "3"}, "baik")
    out, err = start().communicate("satu\ndua\n", timeout=300)
    assert "baik" in out
    assert "Ask again in 3 s." in err


def test_the_page_is_in_the_foreground_and_ends_with_its_command(start):
    pytest.importorskip("gradio")
    port = free_port()
    command = start("--web", "--port", str(port))
    address = f"http://127.0.0.1:{port}"
    assert command.stdout.readline() == f"The page is at {address} - Ctrl-C ends it.\n"
    until(lambda: httpx.get(f"http://127.0.0.1:{port}/health").is_success, within_s=300)
    command.send_signal(signal.SIGINT)
    assert command.wait(60) == 130
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/health")


def test_a_page_that_cannot_listen_is_told(start, scripted):
    pytest.importorskip("gradio")
    command = start("--web", "--port", str(scripted.port))
    _, err = command.communicate(timeout=300)
    assert command.returncode == 1
    assert "The page cannot listen at its address." in err
    assert "Traceback" not in err


def test_an_address_that_is_none_is_refused(start):
    command = start("--web", "--host", "localhost")
    _, err = command.communicate(timeout=300)
    assert command.returncode == 2
    assert "These options do not fit together." in err
