"""One training on two machines: DeepSpeed, pdsh and ssh for real, and this machine twice.

It answers at 127.0.0.1 and at 127.0.0.2, where an sshd of the test's own listens.
"""

import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.process.ports import free_port
from tasks.core.recipe import Finetune
from tasks.core.training.attempt import run_attempt
from tasks.core.training.request import TrainingRequest
from tests.models import tiny_llama
from tests.unit.training.test_attempt import SETTINGS, TEMPLATE, data

__all__ = ["data"]

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ["PATH"])
TOOLS = [SSHD, shutil.which("ssh"), shutil.which("ssh-keygen"), shutil.which("pdsh")]
MACHINES = ("127.0.0.1", "127.0.0.2")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not all(TOOLS), reason="needs openssh-server and pdsh"),
]

CONFIG = """
Port {port}
ListenAddress 127.0.0.1
ListenAddress 127.0.0.2
HostKey {root}/host_key
AuthorizedKeysFile {root}/key.pub
AllowUsers {user}
StrictModes no
PasswordAuthentication no
PidFile none
"""
CLIENT = """#!/bin/sh
exec {ssh} -F none -p {port} -i {root}/key -o StrictHostKeyChecking=no \\
  -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "$@"
"""


@pytest.fixture
def hostfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two machines that ssh reaches without a password."""
    port = free_port()
    for name in ("host_key", "key"):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(make, check=True)
    (tmp_path / "sshd_config").write_text(
        CONFIG.format(port=port, root=tmp_path, user=getpass.getuser())
    )
    client = tmp_path / "bin" / "ssh"
    client.parent.mkdir()
    client.write_text(CLIENT.format(ssh=shutil.which("ssh"), port=port, root=tmp_path))
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}{os.pathsep}{os.environ['PATH']}")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # the system's service would make it
    with subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(tmp_path / "sshd_config")]) as sshd:
        while subprocess.run(["ssh", MACHINES[1], "true"], check=False).returncode != 0:
            assert sshd.poll() is None
            time.sleep(0.1)
        path = tmp_path / "hosts"
        path.write_text("".join(f"{name} slots=1\n" for name in MACHINES))
        yield path
        sshd.terminate()


def test_training_on_two_machines_is_that_of_two_processes_and_tells_its_steps(
    hostfile: Path, data: Path, tmp_path: Path
) -> None:
    fields = {"processes": 2, "gradient_accumulation_steps": 1, "hostfile": hostfile}
    settings = Finetune.model_validate({**SETTINGS.model_dump(), **fields})
    model, out, heard = tiny_llama(tmp_path / "model", layers=2), tmp_path / "out", list[str]()
    out.mkdir()
    request = TrainingRequest(model, settings, data, TEMPLATE, out, on_line=heard.append)
    made = run_attempt(request)
    assert len(made.steps) == 8  # of 8 conversations, 2 at a time, twice
    told = [line.split(",")[0] for line in heard if line.startswith("step ")]
    assert told == [f"step {step.step}/8" for step in made.steps]
