"""Ports that are taken, seen before anything is started."""

import os
import socket

import pytest

from tasks.core.errors import PortTaken
from tasks.core.process.ports import free_port
from tasks.core.serving.launch.ports import can_bind, require_port


def test_a_taken_port_is_named_with_the_process_that_has_it():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortTaken, match=str(port)) as caught:
            require_port("127.0.0.1", port)
    assert "deploy.gateway.port" in str(caught.value.where)
    assert f"pid {os.getpid()}" in str(caught.value.found)


def test_a_port_of_our_own_is_not_taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        require_port("127.0.0.1", server.getsockname()[1], ours=[os.getpid()])


def test_a_free_port_passes():
    require_port("127.0.0.1", free_port())


def test_a_connection_that_waits_to_be_forgotten_does_not_take_its_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # the side that closes first keeps the port in TIME_WAIT
        client.close()
    assert can_bind("127.0.0.1", port)
