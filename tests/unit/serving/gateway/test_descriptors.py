"""A gateway without descriptors: it neither spins nor falls, and answers once it has some."""

import resource
import socket

import psutil
import pytest

from tests.unit.serving.gateway.world import RealGateway, a_route, until

pytestmark = pytest.mark.slow


def test_a_gateway_without_descriptors_waits_without_work_and_answers_afterwards(
    start, model, engine
):
    gateway = start(RealGateway, a_route(model, [engine.url]))
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
