"""What can go wrong between a client and the embedded Hub, on demand.

An ASGI middleware around the whole server: it records every request and disturbs those that a test
names. No route knows of it, and without faults the server runs without it.
"""

import asyncio
import json
import re
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, Protocol, TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Fault(Protocol):
    """One way to disturb a request."""

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request in the place of app, or through it."""


@dataclass(frozen=True)
class Refuse:
    """Answer with a status instead of what was asked for: 429, 5xx, a quota."""

    status: int
    message: str = "refused by a fault"
    retry_after_s: int | None = None

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the status."""
        body = json.dumps({"error": self.message}).encode()
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "x-error-message": self.message,
        }
        if self.retry_after_s is not None:
            headers["retry-after"] = str(self.retry_after_s)
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})


class _Cut(Exception):
    """Ends a response early; uvicorn then closes the connection."""


@dataclass(frozen=True)
class CutAfter:
    """Close the connection after some bytes of the body; 0 closes it after the headers."""

    n_bytes: int

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a part of the answer."""
        left = self.n_bytes

        async def cutting(message: Message) -> None:
            nonlocal left
            if message["type"] != "http.response.body":
                await send(message)
                return
            body = message.get("body", b"")[:left]
            left -= len(body)
            await send({**message, "body": body, "more_body": True})
            if left == 0:
                raise _Cut

        await app(scope, receive, cutting)


@dataclass(frozen=True)
class WrongBytes:
    """Answer with the right number of bytes, of which the first is another."""

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a damaged answer."""
        damaged = False

        async def damaging(message: Message) -> None:
            nonlocal damaged
            body = message.get("body", b"")
            if body and not damaged:
                damaged = True
                message = {**message, "body": bytes([body[0] ^ 0xFF]) + body[1:]}
            await send(message)

        await app(scope, receive, damaging)


@dataclass(frozen=True)
class Slow:
    """Pause after each piece (64 KiB) of the body."""

    pause_s: float

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer slowly."""

        async def slowly(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body":
                await asyncio.sleep(self.pause_s)

        await app(scope, receive, slowly)


@dataclass(frozen=True)
class IgnoreRange:
    """Answer a request for a range with the whole file, as some proxies do."""

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything."""
        kept = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await app({**scope, "headers": kept}, receive, send)


@dataclass(frozen=True)
class Moved:
    """Send the client to the same path at another origin, as the Hub does with large files."""

    origin: str

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the other address; whoever comes by it is served."""
        host = dict(scope["headers"])[b"host"].decode()
        if self.origin.endswith(f"//{host}"):
            await app(scope, receive, send)
            return
        location = self.origin.encode() + scope["raw_path"]
        headers = [(b"location", location), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 302, "headers": headers})
        await send({"type": "http.response.body"})


AnyFault = TypeVar("AnyFault")


@dataclass
class _Plan(Generic[AnyFault]):
    fault: AnyFault
    method: str
    path: re.Pattern[str]
    times: int


@dataclass
class Plans(Generic[AnyFault]):
    """Which of the requests to come are disturbed, and how. Any thread may use it."""

    _plans: list[_Plan[AnyFault]] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def add(self, fault: AnyFault, method: str, path: str, times: int) -> None:
        """Disturb the next `times` requests whose path matches the regular expression."""
        with self._lock:
            self._plans.append(_Plan(fault, method, re.compile(path), times))

    def remove(self, fault: AnyFault) -> None:
        """Disturb no further request in this way."""
        with self._lock:
            self._plans = [plan for plan in self._plans if plan.fault is not fault]

    def clear(self) -> None:
        """Disturb nothing any more."""
        with self._lock:
            self._plans.clear()

    def take(self, method: str, path: str) -> AnyFault | None:
        """Return how this request is disturbed, None for one that is not."""
        with self._lock:
            for plan in self._plans:
                if plan.times and plan.method == method and plan.path.search(path):
                    plan.times -= 1
                    return plan.fault
        return None


@dataclass
class Served:
    """A request that the server has seen, and how many bytes of body it got as an answer."""

    method: str
    path: str
    range: str | None
    authorized: bool
    body_bytes: int = 0


@dataclass
class Faults:
    """The faults to come and the requests that were. One object a server; any thread may use it."""

    served: list[Served] = field(default_factory=list)
    plans: Plans[Fault] = field(default_factory=Plans)

    def add(self, fault: Fault, path: str, *, method: str = "GET", times: int = 1) -> None:
        """See `Plans.add`."""
        self.plans.add(fault, method, path, times)

    def requests(self, path: str, *, method: str = "GET") -> list[Served]:
        """Return the requests so far whose path matches the regular expression."""
        return [one for one in self.served if one.method == method and re.search(path, one.path)]

    def around(self, app: ASGIApp) -> ASGIApp:
        """Return the server with these faults in front of it."""

        async def disturbed(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            headers = dict(scope["headers"])
            record = Served(
                method=scope["method"],
                path=scope["path"],
                range=headers[b"range"].decode() if b"range" in headers else None,
                authorized=b"authorization" in headers,
            )
            self.served.append(record)
            fault = self.plans.take(record.method, record.path)
            counting = _counting(record, send)
            if fault is None:
                await app(scope, receive, counting)
            else:
                await fault(app, scope, receive, counting)

        return disturbed


def _counting(record: Served, send: Send) -> Send:
    async def counted(message: Message) -> None:
        await send(message)
        record.body_bytes += len(message.get("body", b""))

    return counted
