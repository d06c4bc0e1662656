"""A real S3 server with faults before it: busy, failing, silent, cutting off, changing bytes."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Protocol

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.server import MotoRequestHandler
from werkzeug.serving import make_server

from tests.hub_faults import Plans

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Fault(Protocol):
    """One way to disturb a request."""

    def __call__(self, app: Wsgi, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """Answer the request in the place of the server, or through it."""


@dataclass(frozen=True)
class Answer:
    """What S3 says instead of what it was asked for, with its own word for it."""

    status: int
    code: str

    def __call__(self, app: Wsgi, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        body = f"<Error><Code>{self.code}</Code><Message>by a fault</Message></Error>".encode()
        headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
        start(f"{self.status} {self.code}", headers)
        return [body]


@dataclass(frozen=True)
class Silence:
    """No answer before the test ends."""

    end: threading.Event

    def __call__(self, app: Wsgi, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        self.end.wait(600)
        raise ConnectionAbortedError


@dataclass(frozen=True)
class Cut:
    """A part of the answer, whose headers promise all of it; then the connection ends."""

    n_bytes: int

    def __call__(self, app: Wsgi, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        yield b"".join(app(environ, start))[: self.n_bytes]
        raise ConnectionAbortedError


@dataclass(frozen=True)
class Shorter:
    """An answer that is whole, and of fewer bytes than were asked for."""

    n_bytes: int

    def __call__(self, app: Wsgi, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        said: list[Any] = []
        body = b"".join(app(environ, lambda *given: said.append(given)))[: self.n_bytes]
        status, headers = said[0][:2]
        kept = [each for each in headers if each[0].lower() not in ("content-length", "etag")]
        start(status, [*kept, ("Content-Length", str(len(body)))])
        return [body]


@dataclass(frozen=True)
class OtherBytes:
    """The right number of bytes, of which one is another: in what is sent, or in the answer."""

    def __call__(self, app: Wsgi, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT":
            sent = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            environ = {**environ, "wsgi.input": BytesIO(_damaged(sent))}
            return app(environ, start)
        return [_damaged(b"".join(app(environ, start)))]


def _damaged(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@dataclass
class S3Faults:
    """The server with the faults to come, and the requests so far."""

    app: Wsgi
    asked: list[tuple[str, str]] = field(default_factory=list)
    plans: Plans[Fault] = field(default_factory=Plans)

    def add(self, fault: Fault, method: str, path: str, *, times: int = 10**6) -> None:
        """See `Plans.add`."""
        self.plans.add(fault, method, path, times)

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.asked.append((method, path))
        fault = self.plans.take(method, path)
        return self.app(environ, start) if fault is None else fault(self.app, environ, start)


@contextmanager
def faulty_s3() -> Iterator[tuple[str, S3Faults]]:
    """Yield the address of a server of this process, and its faults."""
    faults = S3Faults(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, faults, True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", faults
    finally:
        server.shutdown()
        thread.join()
