"""Finding and ending the processes of a deployment, and no others."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.process.environment import BESIDE_OTHERS, NO_LOGIN
from tasks.core.serving.supervision.processes import (
    MARK,
    end_all,
    marked_environment,
    own_processes,
)

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("ready", flush=True)
time.sleep(600)
"""
SLEEP = "print('ready', flush=True); import time; time.sleep(600)"


@pytest.fixture
def start() -> Iterator:
    started: list[subprocess.Popen[str]] = []

    def run(code: str, root: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=marked_environment(root, os.environ),
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def test_a_process_that_ignores_sigterm_is_killed_with_its_children(start, tmp_path):
    stubborn = start(STUBBORN, tmp_path)
    assert len(own_processes(tmp_path)) == 2
    ended = end_all(tmp_path, grace_s=0.3)
    assert len(ended) == 2
    assert stubborn.wait(timeout=600) == -signal.SIGKILL
    assert own_processes(tmp_path) == []


def test_a_process_that_heeds_sigterm_is_not_killed(start, tmp_path):
    process = start(SLEEP, tmp_path)
    end_all(tmp_path, grace_s=600)
    assert process.wait(timeout=600) == -signal.SIGTERM


def test_processes_of_another_deployment_are_left_alone(start, tmp_path):
    other = start(SLEEP, tmp_path / "other")
    start(SLEEP, tmp_path / "mine")
    end_all(tmp_path / "mine", grace_s=600)
    time.sleep(0.2)
    assert other.poll() is None


def test_ending_what_does_not_run_ends_nothing(tmp_path):
    assert end_all(tmp_path, grace_s=1) == ()


def test_no_token_and_no_proxy_reaches_the_servers(tmp_path):
    environ = {
        "PATH": "/bin",
        "HF_TOKEN": "hf_secret",
        "PREFECT_API_KEY": "pnu_secret",
        "HTTP_PROXY": "http://proxy",
        "CUDA_VISIBLE_DEVICES": "1",
    }
    assert marked_environment(tmp_path, environ) == {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "1",
        **BESIDE_OTHERS,
        **NO_LOGIN,
        MARK: str(tmp_path),
    }
