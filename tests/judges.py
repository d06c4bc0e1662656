"""A judge on loopback: an OpenAI-compatible endpoint that prefers what it is told to prefer."""

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_QUOTED = re.compile(r"<<<ANSWER (\w+)>>>\n(.*?)\n<<<END \1>>>", re.DOTALL)


@dataclass(frozen=True)
class Said:
    """What the server answers: a status, headers and a body."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Chooses = Callable[[tuple[str, str]], int | None]
"""Of the two answers as they are quoted, the number of the better one; None is a tie."""


def longer(answers: tuple[str, str]) -> int | None:
    """Prefer the longer answer, whichever stands first."""
    first, second = map(len, answers)
    return None if first == second else int(second > first)


def always_first(_: tuple[str, str]) -> int | None:
    """Prefer whatever stands first: a judge that reads nothing."""
    return 0


def completion(content: str, usage: tuple[int, int] | None = (100, 10)) -> Said:
    """Return a chat completion with this content."""
    body: dict[str, Any] = {"choices": [{"message": {"role": "assistant", "content": content}}]}
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return Said(body=json.dumps(body).encode())


class JudgeServer:
    """Answers each question by `chooses`; what stands in `instead` is answered before that."""

    def __init__(self, chooses: Chooses = longer, *, usage: tuple[int, int] | None = (100, 10)):
        self.chooses, self.usage = chooses, usage
        self.instead: list[Said] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                said = server.answer(json.loads(body), dict(self.headers))
                self.send_response(said.status)
                for name, value in said.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(said.body)))
                self.end_headers()
                self.wfile.write(said.body)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def answer(self, request: dict[str, Any], headers: Mapping[str, str]) -> Said:
        """Return what this request is answered with."""
        self.requests.append(request)
        self.headers.append(headers)
        if self.instead:
            return self.instead.pop(0)
        (one, first), (other, second) = _QUOTED.findall(request["messages"][-1]["content"])
        chosen = self.chooses((first, second))
        better = "tie" if chosen is None else (one, other)[chosen]
        reply = json.dumps({"reason": "Lebih jelas.", "better": better})
        return completion(reply, self.usage)

    def close(self) -> None:
        """End the server."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
