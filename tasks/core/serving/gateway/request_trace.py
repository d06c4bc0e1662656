"""What is recorded of a request for log and counters: nothing that a person wrote."""

import time
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection
from starlette.types import Scope

_PLACE = "kawan_usaha_trace"


@dataclass
class RequestTrace:
    """One request, from its first byte to its last."""

    request_id: str
    path: str
    build: str | None = None
    """The build that must answer, if another gateway asks."""
    answered_by: str | None = None
    """The build that answered."""
    key_name: str = "-"
    status: int = 0
    upstreams: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    answer_tokens: int = 0
    first_token_s: float | None = None
    outcome: str = "ended"
    _begun: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._begun

    def first_token(self) -> bool:
        """Record the time of the first token; return whether this is it."""
        if self.first_token_s is not None:
            return False
        self.first_token_s = self.seconds
        return True

    def line(self) -> str:
        """Return the log line."""
        first = "-" if self.first_token_s is None else f"{self.first_token_s:.3f}"
        return (
            f"{self.path} {self.status} {self.outcome} id={self.request_id} key={self.key_name} "
            f"to={','.join(self.upstreams) or '-'} prompt={self.prompt_tokens} "
            f"answer={self.answer_tokens} first={first} seconds={self.seconds:.3f}"
        )


def put_trace(scope: Scope, trace: RequestTrace) -> None:
    """Attach the trace to its request."""
    scope[_PLACE] = trace


def trace_of(request: HTTPConnection) -> RequestTrace:
    """Return the trace of a request."""
    trace: RequestTrace = request.scope[_PLACE]
    return trace
