"""The last answers, for comparison with a new model: in memory only, never stored."""

from collections import deque
from typing import Any

from pydantic import BaseModel, ConfigDict


class RecentAnswer(BaseModel):
    """A request to the engine, and its answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    build: str
    request: dict[str, Any]
    """The body of the engine protocol: token ids and sampling parameters."""
    text: str
    finish_reason: str


class Recent:
    """The last complete answers.

    Those of a single token are probes and left out, as are requests that score their prompt.
    """

    def __init__(self, count: int) -> None:
        self._answers: deque[RecentAnswer] = deque(maxlen=count)

    def add(self, build: str, request: dict[str, Any], text: str, finish_reason: str) -> None:
        """Remember one."""
        if request["max_tokens"] > 1 and "prompt_logprobs" not in request:
            self._answers.append(
                RecentAnswer(
                    build=build, request=dict(request), text=text, finish_reason=finish_reason
                )
            )

    def all(self) -> list[RecentAnswer]:
        """Return them, the oldest first."""
        return list(self._answers)
