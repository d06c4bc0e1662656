"""The last answers, for a new model to be compared with: in memory only, never written anywhere."""

from collections import deque
from typing import Any

from pydantic import BaseModel, ConfigDict


class RecentAnswer(BaseModel):
    """What the engine was asked, and what it answered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    build: str
    request: dict[str, Any]
    """The body of the engine protocol: token ids and sampling parameters."""
    text: str
    finish_reason: str


class Recent:
    """The last answers that were whole.

    One of a single token is a probe's and not kept, nor is one that measures its prompt.
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
