"""A gateway without descriptors: it neither spins nor falls, and answers once it has some."""

import resource
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.unit.serving.gateway.world import Gateway, a_route, until

pytestmark = pytest.mark.slow


def test_a_gateway_without_descriptors_waits_without_work_and_answers_afterwards(
    start, model, engine
):
    gateway = start(Gateway, a_route(model, [engine.url]))
    process = psutil.Process(gateway.process.pid)
    limit = process.num_fds() + 4
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    idle = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(40)]
    until(lambda: "out of system resource" in gateway.text)
    before = sum(process.cpu_times()[:2])
    refusals = gateway.text.count("out of system resource")
    until(lambda: gateway.text.count("out of system resource") >= refusals + 3)  # one a second
    assert sum(process.cpu_times()[:2]) - before < 1.5
    for each in idle:
        each.close()
    until(gateway.listens)
    assert gateway.chat().status_code == 200


def test_a_gateway_that_cannot_reach_its_engine_for_want_of_descriptors_says_503(
    start, model, engine
):
    gateway = start(Gateway, a_route(model, [engine.url]))
    process = psutil.Process(gateway.process.pid)
    until(lambda: not _connected(process))
    used = {int(path.name) for path in Path(f"/proc/{process.pid}/fd").iterdir()}
    _, second_free = sorted(set(range(len(used) + 2)) - used)[:2]
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (second_free, 10_000))  # one is left
    refused = gateway.chat()
    assert refused.status_code == 503, refused.text
    assert refused.json()["error"]["message"]
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (1000, 10_000))
    until(lambda: gateway.chat().status_code == 200)


def _connected(process: psutil.Process) -> list[Any]:
    return [each for each in process.net_connections(kind="tcp") if each.status == "ESTABLISHED"]
