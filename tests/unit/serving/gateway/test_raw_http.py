"""Bytes that are hardly HTTP: answered or cut off, and the next client asks as before."""

import json
import os
import socket
from pathlib import Path

import httpx
import psutil
import pytest

from tests.unit.serving.gateway.world import MESSAGES, MODEL_NAME, Gateway, a_route, server_pid

PATH = "/v1/chat/completions"
BODY = json.dumps({"model": MODEL_NAME, "messages": MESSAGES, "max_tokens": 1}).encode()


def post(*headers: str, body: bytes = BODY, path: str = PATH) -> bytes:
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", "Connection: close", *headers])
    return head.encode("latin-1") + b"\r\n\r\n" + body


LENGTH = f"Content-Length: {len(BODY)}"
REQUESTS = {
    "a length of other digits": post("Content-Length: \xb2"),
    "a length of a thousand digits": post("Content-Length: " + "9" * 5000),
    "a length below nothing": post("Content-Length: -1"),
    "two lengths": post(LENGTH, "Content-Length: 3"),
    "a length and chunks": post(LENGTH, "Transfer-Encoding: chunked"),
    "a chunk of no number": post("Transfer-Encoding: chunked", body=b"xyz\r\nabc\r\n0\r\n\r\n"),
    "a chunk of a huge number": post(
        "Transfer-Encoding: chunked", body=b"f" * 5000 + b"\r\nabc\r\n"
    ),
    "an encoding that is none": post("Transfer-Encoding: gzip, foo"),
    "a huge header": post(LENGTH, "X-Request-ID: " + "a" * 1_000_000),
    "many headers": post(LENGTH, *[f"X-{n}: {n}" for n in range(20_000)]),
    "a header of odd bytes": post(LENGTH, "Authorization: Bearer \xff\x80", "Origin: \xfe"),
    "a long path": post(LENGTH, path="/" + "a" * 200_000),
    "a path of odd bytes": post(LENGTH, path="/v1/%ff%00%2e%2e/\xff"),
    "a path outside": b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "a version that is none": b"GET / HTTP/9.9\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(200),
    "nothing but lines": b"\r\n" * 100_000,
    "an upgrade": post(LENGTH, "Upgrade: websocket", "Connection: Upgrade"),
    "a proxy": b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "a body in other letters": post("Content-Length: 8", body="ÿþ{}".encode("utf-16")[:8]),
}


def answers_to(gateway: Gateway, request: bytes) -> bytes:
    """Return what comes back before the gateway ends the connection, or all of our side is sent."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=300) as client:
        received = b""
        try:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            while part := client.recv(65536):
                received += part
        except OSError:  # it has read enough, and ended the connection
            pass
        return received


@pytest.mark.parametrize("name", REQUESTS)
def test_what_is_hardly_http_harms_nobody(gateway: Gateway, name: str) -> None:
    before = len(gateway.text)
    answer = answers_to(gateway, REQUESTS[name])
    assert not answer.startswith(b"HTTP/1.1 5"), answer[:300]
    logged = gateway.text[before:]
    assert "Traceback" not in logged, logged
    assert httpx.get(f"{gateway.url}/v1/models").status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        b"[" * 300_000 + b"]" * 300_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"9" * 900_000,
        b"1e" + b"9" * 900_000,
        b'"' + b"\\u0000" * 100_000 + b'"',
        b"[" + b"{}," * 300_000 + b"{}]",
        b'["' + b'","' * 200_000 + b'"]',
    ],
    ids=["lists in lists", "objects in objects", "digits", "exponent", "zeros", "objects", "texts"],
)
@pytest.mark.parametrize("field", ["messages", "stop", "logit_bias", "metadata", "n"])
def test_a_megabyte_of_anything_in_a_field_is_answered_in_bounded_memory(
    gateway: Gateway, field: str, value: bytes
) -> None:
    process = psutil.Process(server_pid(gateway.port))
    before = process.memory_info().rss
    body = BODY[:-1] + b', "' + field.encode() + b'": ' + value + b"}"
    answer = httpx.post(f"{gateway.url}{PATH}", content=body, timeout=300)
    assert answer.status_code in (200, 400, 413), answer.text[:300]
    assert len(answer.content) < 5_000, "an error repeats what it was sent"
    assert process.memory_info().rss - before < 300 << 20


def test_many_who_send_nothing_keep_nobody_else_from_asking(gateway: Gateway) -> None:
    silent = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(200)]
    try:
        for number, client in enumerate(silent):
            client.sendall(post(LENGTH, body=BODY[: number % len(BODY)]))
        assert httpx.get(f"{gateway.url}/v1/models", timeout=300).status_code == 200
        body = {"model": MODEL_NAME, "messages": MESSAGES, "max_tokens": 1}
        assert gateway.post(PATH, body).status_code == 200
    finally:
        for client in silent:
            client.close()


def test_keys_that_become_garbage_leave_those_in_force(start, model: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps([{"name": "warung", "key": "rahasia-warung-satu"}]))
    keys.chmod(0o600)
    gateway = start(
        Gateway, a_route(model, ["http://127.0.0.1:1"]), gateway={"keys_file": str(keys)}
    )
    headers = {"Authorization": "Bearer rahasia-warung-satu"}
    bomb = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))
    for garbage in (
        b"!!bool maybe",
        b"!!int ''",
        b"[" * 5000,
        b"\xff",
        b"a0: &a0 x\n" + bomb.encode(),
    ):
        keys.write_bytes(garbage)
        answer = httpx.get(f"{gateway.url}/v1/models", headers=headers, timeout=300)
        assert answer.status_code == 200
