"""Why a request to the gateway got no answer, in the one place that knows the client's exceptions.

Covers the refusals of OpenAI's API and of FastChat's, whose numbers stand in the body. What a
person is told of them is said by whoever asks: a terminal in English, the page in Indonesian.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

import httpx2
import openai

FAILURES = (openai.APIError, httpx2.HTTPError)
"""What the client raises; the second while an answer is streamed."""


class Cause(Enum):
    """What can be done about it differs from one to the next."""

    TOO_LONG = "the conversation is longer than the model can read"
    BUSY = "the server takes no more requests now"
    NO_MODEL = "no such model is served"
    NO_KEY = "the server wants a key"
    FAILED = "the server answers with an error"
    BROKEN = "the answer broke off"
    UNREACHABLE = "the server cannot be reached"


@dataclass(frozen=True)
class Refusal:
    """What happened, what the server says of it, and when to come back if it says so."""

    cause: Cause
    said: str
    retry_after_s: int | None = None


_BY_CODE = {
    "context_length_exceeded": Cause.TOO_LONG,
    "40303": Cause.TOO_LONG,
    "model_not_found": Cause.NO_MODEL,
    "40301": Cause.NO_MODEL,
}
_BY_STATUS = {
    401: Cause.NO_KEY,
    403: Cause.NO_KEY,
    429: Cause.BUSY,
    503: Cause.BUSY,
}


def refusal_of(failure: Exception) -> Refusal:
    """Return why the client failed, from one of FAILURES."""
    if isinstance(failure, openai.APIStatusError):
        return _of_status(failure)
    if isinstance(failure, openai.APIConnectionError):
        return Refusal(Cause.UNREACHABLE, str(failure.__cause__ or failure))
    return Refusal(Cause.BROKEN, str(failure) or type(failure).__name__)


def _of_status(failure: Any) -> Refusal:
    body = failure.body if isinstance(failure.body, dict) else {}
    cause = _BY_CODE.get(str(body.get("code"))) or _BY_STATUS.get(failure.status_code)
    after = failure.response.headers.get("retry-after", "")
    return Refusal(
        cause or Cause.FAILED,
        str(body.get("message") or failure.message),
        int(after) if after.isdecimal() else None,
    )
