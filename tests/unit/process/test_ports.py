"""Ports for servers that bind them later."""

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.errors import PortTaken
from tasks.core.home import PROJECT
from tasks.core.process import ports
from tasks.core.process.ports import bound_socket, free_port

ANOTHER = """
import sys
from tasks.core.home import PROJECT
from tasks.core.process import ports
ports._SERVERS = range(int(sys.argv[1]), int(sys.argv[1]) + 1)
print(ports.free_port())
"""


def of_another_process(port: int) -> "subprocess.CompletedProcess[str]":
    """Let another process look for a free port among this one."""
    argv = [sys.executable, "-c", ANOTHER, str(port)]
    return subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_nobody_is_given_a_port_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr(ports, "_SERVERS", range(port, port + 1))
    with pytest.raises(PortTaken, match="No port is free"):
        free_port()
    assert "PortTaken" in of_another_process(port).stderr
    bound_socket("127.0.0.1", port, what="", next_step="").close()


def test_a_port_on_which_somebody_listens_is_not_given() -> None:
    taken = free_port()
    with bound_socket("127.0.0.1", taken, what="", next_step="") as server:
        server.listen()
        assert "PortTaken" in of_another_process(taken).stderr


def test_the_port_of_a_process_that_has_ended_can_be_given_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port() + 1  # nobody's: a run holds few of ten thousand
    assert of_another_process(port).stdout == f"{port}\n"
    monkeypatch.setattr(ports, "_SERVERS", range(port, port + 1))
    assert free_port() == port


def test_no_port_is_one_that_the_kernel_gives_away() -> None:
    lowest, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert free_port() < int(lowest)
