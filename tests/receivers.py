"""Who gets what a Prefect server sends: a mail server and a web server on loopback."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from aiosmtpd.smtp import SMTP, Envelope, Session

T = TypeVar("T")

_HANG_S = 120.0


class Mailbox:
    """Takes mail for anybody, and keeps it."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self._loop = loop = asyncio.new_event_loop()
        served = loop.create_server(lambda: SMTP(self, loop=loop), "127.0.0.1", 0)
        self._server = loop.run_until_complete(served)
        self.port = int(self._server.sockets[0].getsockname()[1])
        self._thread = threading.Thread(target=loop.run_forever, daemon=True)
        self._thread.start()

    async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:
        """Keep one mail: aiosmtpd calls this."""
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 kept"

    def subjects(self) -> list[str]:
        return [str(mail["subject"]) for mail in self.mails]

    def mail(self, subject: str) -> EmailMessage:
        """Return the mail with this subject, once it is there."""
        return awaited(lambda: [m for m in self.mails if m["subject"] == subject])

    def text(self, subject: str) -> str:
        """Return what stands in the mail with this subject, once it is there."""
        return str(self.mail(subject).get_content()).replace("\r\n", "\n")

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class WebhookReceiver:
    """Takes any POST, keeps the JSON, and answers with `status`."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.status = 204
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.headers["Content-Type"] == "application/json"
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.bodies.append(json.loads(body))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook/sesame"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def body(self, title: str) -> dict[str, Any]:
        """Return what came with this title, once it is there."""
        return awaited(lambda: [body for body in self.bodies if body["title"] == title])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def awaited(look: Callable[[], list[T]]) -> T:
    """Return the first thing found, as soon as there is one."""
    give_up = time.monotonic() + _HANG_S
    while not (found := look()):
        if time.monotonic() > give_up:
            raise TimeoutError("It never arrived.")
        time.sleep(0.05)
    return found[0]
