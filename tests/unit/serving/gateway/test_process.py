"""The process: what it refuses to start with, what it holds and connects to, how it ends.

Where what is tested begins after the imports, the gateway is a preforked one.
"""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.models import tiny_llama
from tests.unit.serving.gateway.world import (
    LONG,
    MESSAGES,
    MODEL_NAME,
    ROOT,
    Engine,
    Gateway,
    RealGateway,
    a_route,
    server_pid,
    until,
)

CONNECTS = """\
import sys

def told(event, arguments):
    place = {"socket.connect": 1, "socket.getaddrinfo": 0}.get(event)
    if place is not None and not any(near in str(arguments[place]) for near in ("127.0.0.1", "/")):
        print("looked for", arguments[place], file=sys.stderr, flush=True)

sys.addaudithook(told)
print("the hook listens", file=sys.stderr, flush=True)
"""


@pytest.fixture(scope="module")
def code_of_the_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is there once the code of `real`'s model has run."""
    return tmp_path_factory.mktemp("ran") / "ran"


@pytest.fixture(scope="module")
def real(
    tmp_path_factory: pytest.TempPathFactory, shared_engine: Engine, code_of_the_model: Path
) -> Iterator[Gateway]:
    """A real process that tells whom it connects to, with a model that has code of its own."""
    directory = tmp_path_factory.mktemp("real")
    model = tiny_llama(directory / "model")
    (model / "modeling_x.py").write_text(f"open({str(code_of_the_model)!r}, 'w')")
    (directory / "sitecustomize.py").write_text(CONNECTS)
    env = {"PYTHONPATH": f"{directory}{os.pathsep}{ROOT}"}
    gateway = RealGateway(directory, a_route(model, [shared_engine.url]), env=env)
    yield gateway
    gateway.end()


def refuses(start, **options) -> str:
    gateway = start(Gateway, None, wait=False, **options)
    assert gateway.process.wait(600) == 2
    assert "Traceback" not in gateway.text
    return gateway.text


def test_beyond_loopback_it_starts_only_with_keys(start):
    text = refuses(start, gateway={"host": "0.0.0.0"})
    assert "needs API keys" in text
    assert "keys_file" in text


def test_a_socket_of_supervisords_counts_as_what_it_is(start):
    with socket.create_server(("0.0.0.0", 0)) as public:
        text = refuses(start, listen="inherited", inherited=public)
    assert "needs API keys" in text


def test_keys_that_cannot_be_used_are_refused_at_start(start, tmp_path):
    file = tmp_path / "keys"
    file.write_text("[]")
    file.chmod(0o644)
    assert "chmod 600" in refuses(start, gateway={"keys_file": str(file)})


def test_without_a_listening_socket_of_supervisords_it_says_so(start):
    assert "fcgi-program" in refuses(start, listen="inherited")


def test_settings_that_it_does_not_know_are_refused(start):
    assert "settings cannot be read" in refuses(start, port=5)


def test_a_port_in_use_and_a_socket_in_use_are_told(start, gateway):
    taken = start(Gateway, None, wait=False, gateway={"port": gateway.port})
    assert taken.process.wait(600) == 1
    assert "cannot listen" in taken.text
    link = taken.directory / "control.sock"
    link.symlink_to(gateway.control_socket)
    again = Gateway(taken.directory, None, wait=False)
    try:
        assert again.process.wait(600) == 2
        assert "another process answers there" in again.text
    finally:
        again.end()


def test_no_torch_and_no_code_of_a_model_is_in_the_process(real, engine, code_of_the_model):
    assert real.chat().status_code == 200
    maps = Path(f"/proc/{real.process.pid}/maps").read_text()
    assert "libtorch" not in maps
    assert not code_of_the_model.exists()
    status = Path(f"/proc/{real.process.pid}/status").read_text()
    held_kb = int(status.split("VmRSS:")[1].split()[0])
    assert held_kb < 250_000


def test_nothing_is_fetched_while_serving(real, engine, reference):
    """Token ids made FastChat's server fetch OpenAI's tokenizer."""
    ids = reference.ids("modal")
    for path, fields in (
        ("completions", {"prompt": ids, "max_tokens": 2, "logprobs": 1}),
        ("embeddings", {"input": ids}),
        ("chat/completions", {"messages": MESSAGES, "max_tokens": 2}),
    ):
        answer = real.post(f"/v1/{path}", {"model": MODEL_NAME, **fields})
        assert answer.status_code == 200, answer.text
    assert "the hook listens" in real.text
    assert "looked for" not in real.text


@pytest.mark.slow
def test_a_restart_behind_supervisords_socket_loses_nobody(start, model, engine):
    """Connections wait in the socket; streams in progress run to their end first."""
    engine.misbehave(None, pace_s=0.02)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as public:
        first = start(
            RealGateway, a_route(model, [engine.url]), listen="inherited", inherited=public
        )
        stream = first.client().chat.completions.create(
            model=MODEL_NAME, messages=MESSAGES, max_tokens=60, temperature=0, stream=True
        )
        next(stream)
        first.process.send_signal(signal.SIGTERM)
        *_, last = stream
        assert last.choices[0].finish_reason == "length"
        assert first.process.wait(600) == 0
        with socket.create_connection(first_address(first)) as waiting:
            waiting.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
            second = start(
                RealGateway, a_route(model, [engine.url]), listen="inherited", inherited=public
            )
            waiting.settimeout(60)
            assert waiting.recv(100).startswith(b"HTTP/1.1 200 ")
        assert second.chat(max_tokens=2).status_code == 200


def first_address(gateway: Gateway) -> tuple[str, int]:
    return ("127.0.0.1", gateway.port)


def test_what_has_not_ended_in_time_is_ended_with_the_process(start, model, engine):
    gateway = start(Gateway, a_route(model, [engine.url]), shutdown_s=1)
    engine.misbehave("hang-in-stream")
    stream = gateway.client().chat.completions.create(stream=True, **LONG)
    next(stream)
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(600) == 0
    until(lambda: engine.state()["running"] == 0)


def test_a_killed_gateway_starts_again_at_once(start, model, engine):
    gateway = start(Gateway, a_route(model, [engine.url]))
    os.kill(server_pid(gateway.port), signal.SIGKILL)
    assert gateway.process.wait(60) == -signal.SIGKILL
    assert gateway.control_socket.exists()
    again = Gateway(gateway.directory, None)
    try:
        assert again.chat().status_code == 200
        assert again.control.state().route is not None
    finally:
        again.end()


def test_queue_and_limit_hold_in_the_process_too(start, model, engine):
    limits = {"max_running": 1, "max_queued": 0}
    gateway = start(Gateway, a_route(model, [engine.url]), gateway=limits)
    engine.misbehave(None, pace_s=0.05)
    with httpx.Client(timeout=600) as client:
        url = f"{gateway.url}/v1/chat/completions"
        with client.stream("POST", url, json=LONG | {"stream": True}) as first:
            pieces = first.iter_bytes()
            next(pieces)
            full = gateway.chat()
            assert full.status_code == 429
            assert int(full.headers["retry-after"]) > 0
            assert full.json()["code"] == 42903
            assert httpx.get(f"{gateway.url}/ready").status_code == 200
    assert gateway.chat(n=2).status_code == 400
