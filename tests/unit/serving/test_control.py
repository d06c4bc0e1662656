"""A supervisord that is killed while it answers is one that does not answer."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import parse_headers
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from xmlrpc.client import dumps

import pytest

from tasks.core.errors import ServingFailed
from tasks.core.serving.supervision.supervisord import Supervisor

BODY = dumps(
    ([{"name": "blue", "group": "blue", "statename": "RUNNING", "pid": 7, "stop": 0}],),
    methodresponse=True,
).encode()
WHOLE = b"HTTP/1.0 200 OK\r\nContent-Type: text/xml\r\n\r\n" + BODY


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[Supervisor]:
    """Answer every request at the socket with the same bytes, and close it."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            headers = parse_headers(self.rfile)  # what is not read would break the connection
            self.rfile.read(int(headers["Content-Length"]))
            self.wfile.write(answer)

    with ThreadingUnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Supervisor(path)
        finally:
            server.shutdown()
            thread.join()


def test_a_whole_answer_is_read(tmp_path: Path) -> None:
    with answering(tmp_path / "socket", WHOLE) as supervisor:
        assert supervisor.processes()["blue"].pid == 7


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_an_answer_that_breaks_off_is_none(tmp_path: Path, share: float) -> None:
    with (
        answering(tmp_path / "socket", WHOLE[: int(share * len(WHOLE))]) as supervisor,
        pytest.raises(ServingFailed, match="supervisord does not answer"),
    ):
        supervisor.processes()
