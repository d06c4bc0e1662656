"""The page's client for reviews: collected answers, requested with the reviewer's key.

The invariant: the key is passed on and stored nowhere.
"""

from typing import Literal

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.serving.page import words

_QUICK_S = 60.0
_BY_CODE = {
    "not_found": words.GONE,
    "decided_meanwhile": words.DECIDED_MEANWHILE,
    "not_collecting": words.NOT_COLLECTING,
    "forbidden": words.NO_REVIEWER,
}


class NoReview(Exception):
    """It failed; the text tells the reviewer why."""


class ReviewedMessage(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str


class Earlier(BaseModel):
    """The current decision."""

    model_config = ConfigDict(frozen=True)

    time: str


class ReviewItem(BaseModel):
    """An answer to review."""

    model_config = ConfigDict(frozen=True)

    id: str
    messages: tuple[ReviewedMessage, ...]
    answer: str
    cut: bool = False
    verdict: Literal["up", "down"] | None
    correction: str | None
    review: Earlier | None


class ReviewPage(BaseModel):
    """The next answer, if there is one, how many are waiting, and the position after it."""

    model_config = ConfigDict(frozen=True)

    data: tuple[ReviewItem, ...]
    waiting: int
    after: str | None


class _Fault(BaseModel):
    code: str | None = None


class _Refusal(BaseModel):
    error: _Fault


class Reviews:
    """The gateway's list of answers. One per process."""

    def __init__(self, base_url: str) -> None:
        # trust_env: no proxy of the environment may read along.
        self._client = httpx.AsyncClient(base_url=base_url, trust_env=False, timeout=_QUICK_S)

    async def next(self, key: str, after: str | None) -> ReviewPage:
        """Return what comes next after a position in the list. Raises NoReview."""
        asked = {"limit": "1"} | ({} if after is None else {"after": after})
        answer = await self._asked("GET", key, params=asked)
        try:
            return ReviewPage.model_validate_json(answer.content)
        except ValidationError as error:
            raise NoReview(words.NO_REVIEW_NOW) from error

    async def decide(
        self, key: str, item: ReviewItem, decision: Literal["accept", "reject"], answer: str | None
    ) -> None:
        """Send a decision. Raises NoReview."""
        seen = None if item.review is None else item.review.time
        body = {"id": item.id, "decision": decision, "answer": answer, "seen": seen}
        await self._asked("POST", key, json=body)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def _asked(
        self,
        method: str,
        key: str,
        *,
        params: dict[str, str] | None = None,
        json: dict[str, str | None] | None = None,
    ) -> httpx.Response:
        if not key.strip():
            raise NoReview(words.NO_KEY_TYPED)
        if not key.strip().isascii() or not key.strip().isprintable():
            raise NoReview(words.KEY_UNKNOWN)
        headers = {"Authorization": f"Bearer {key.strip()}"}
        try:
            answer = await self._client.request(
                method, "/reviews", params=params, json=json, headers=headers
            )
        except httpx.HTTPError as error:
            raise NoReview(words.NO_REVIEW_NOW) from error
        if answer.is_success:
            return answer
        raise NoReview(_why(answer))


def _why(answer: httpx.Response) -> str:
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        return words.KEY_UNKNOWN
    try:
        code = _Refusal.model_validate_json(answer.content).error.code
    except ValidationError:
        return words.NO_REVIEW_NOW
    return _BY_CODE.get(code or "", words.NO_REVIEW_NOW)
