"""What a gateway does with an engine: asks with token ids, reads server-sent events, hangs up."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx

NAME = "Kawan-Usaha"
WAIT_S = 600.0
"""Of a busy machine; no measure."""


@dataclass(frozen=True)
class Answered:
    """A whole answer."""

    chunks: list[dict[str, Any]]

    @property
    def text(self) -> str:
        return "".join(choice["text"] for choice in self._choices())

    @property
    def finish_reason(self) -> str | None:
        return [choice["finish_reason"] for choice in self._choices()][-1]

    @property
    def usage(self) -> dict[str, int]:
        assert self.chunks[-1]["choices"] == []
        return self.chunks[-1]["usage"]

    def logprobs(self, part: str) -> list[Any]:
        found = (choice["logprobs"] for choice in self._choices())
        return [value for logprobs in found if logprobs for value in logprobs[part]]

    def _choices(self) -> Iterator[dict[str, Any]]:
        for chunk in self.chunks:
            yield from chunk["choices"]


def request(prompt: list[int], **fields: object) -> dict[str, object]:
    return {"model": NAME, "prompt": prompt, "max_tokens": 8, "temperature": 0, **fields}


@cache
def _client() -> httpx.Client:
    """One for all requests, as each reads the public certificates; it keeps no connection."""
    alone = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.Client(trust_env=False, timeout=WAIT_S, limits=alone)


def post(url: str, body: object, path: str = "/v1/completions") -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return _client().post(url + path, content=content)


def ask(url: str, prompt: list[int], **fields: object) -> Answered:
    response = post(url, request(prompt, **fields))
    assert response.status_code == 200, response.text
    *events, done = response.text.removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    return Answered([json.loads(event.removeprefix("data: ")) for event in events])


def refused(url: str, body: object, path: str = "/v1/completions") -> tuple[int, str]:
    """Return status and message of an answer that is an error."""
    response = post(url, body, path)
    return response.status_code, response.json()["error"]["message"]


def send(url: str, body: object) -> socket.socket:
    """Return a connection on which a request has been sent whole."""
    address = urlsplit(url)
    content = json.dumps(body).encode()
    connection = socket.create_connection((address.hostname, address.port), timeout=WAIT_S)
    connection.sendall(
        b"POST /v1/completions HTTP/1.1\r\nhost: engine\r\n"
        b"content-length: " + str(len(content)).encode() + b"\r\n\r\n" + content
    )
    return connection


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)
