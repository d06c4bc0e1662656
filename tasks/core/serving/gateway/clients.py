"""The clients of the gateway, one for each key, with their limits and permissions."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection
from starlette.types import Scope

from tasks.core.serving.gateway.api_error import ApiError, FastChatCode
from tasks.core.serving.gateway.key_entries import KeyEntry

_MINUTE_S = 60.0
_PLACE = "kawan_usaha_client"


@dataclass
class Client:
    """A client of the gateway, with its limits and its requests in progress."""

    name: str
    requests_at_once: int | None = None
    requests_per_minute: int | None = None
    answer_tokens: int | None = None
    reviewer: bool = False
    _running: int = 0
    _begun: deque[float] = field(default_factory=deque)

    @contextmanager
    def one_request(self) -> Iterator[None]:
        """Count one request while it runs. Raises ApiError beyond a limit."""
        now = time.monotonic()
        while self._begun and now - self._begun[0] >= _MINUTE_S:
            self._begun.popleft()
        if self.requests_at_once is not None and self._running >= self.requests_at_once:
            raise _too_many(f"{self.requests_at_once} requests at once", 1)
        if self.requests_per_minute is not None:
            if len(self._begun) >= self.requests_per_minute:
                wait_s = int(self._begun[0] + _MINUTE_S - now) + 1
                raise _too_many(f"{self.requests_per_minute} requests a minute", wait_s)
            self._begun.append(now)
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def limited_as(self, entry: KeyEntry) -> "Client":
        """Apply the limits and permissions of an entry; return this client."""
        self.requests_at_once = entry.requests_at_once
        self.requests_per_minute = entry.requests_per_minute
        self.answer_tokens = entry.answer_tokens
        self.reviewer = entry.reviewer
        return self

    def require_reviewer(self) -> None:
        """Raise ApiError unless this client may read and review what people have asked."""
        if not self.reviewer:
            raise ApiError(
                FastChatCode.NO_PERMISSION,
                "Collected answers are for reviewers: keys with `reviewer: true` in the file that "
                "deploy.gateway.keys_file names.",
            )


def put_client(scope: Scope, client: Client) -> None:
    """Attach the client to its request."""
    scope[_PLACE] = client


def client_of(request: HTTPConnection) -> Client:
    """Return the client of a request."""
    client: Client = request.scope[_PLACE]
    return client


def _too_many(what: str, retry_after_s: int) -> ApiError:
    return ApiError(
        FastChatCode.RATE_LIMIT,
        f"This key allows {what}.",
        retry_after_s=retry_after_s,
    )
