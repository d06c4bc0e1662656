"""Why a request to the gateway failed: the one place that knows the client's exceptions.

Covers the errors of OpenAI's API and of FastChat's, whose numbers are in the body. The callers put
them into words for a person: the terminal in English, the page in Indonesian.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

import httpx2
import openai

FAILURES = (openai.APIError, httpx2.HTTPError)
"""What the client raises; the second one while an answer is streamed."""


class FailureCause(Enum):
    """Why it failed; each cause has another remedy."""

    TOO_LONG = "the conversation is longer than the model can read"
    BUSY = "the server accepts no more requests now"
    NO_MODEL = "no such model is served"
    NO_KEY = "the server requires a key"
    FAILED = "the server answers with an error"
    BROKEN = "the answer was cut off"
    UNREACHABLE = "the server cannot be reached"


@dataclass(frozen=True)
class RequestFailure:
    """The cause, the server's message, and when to retry if the server says so."""

    cause: FailureCause
    said: str
    retry_after_s: int | None = None


_BY_CODE = {
    "context_length_exceeded": FailureCause.TOO_LONG,
    "40303": FailureCause.TOO_LONG,
    "model_not_found": FailureCause.NO_MODEL,
    "40301": FailureCause.NO_MODEL,
}
_BY_STATUS = {
    401: FailureCause.NO_KEY,
    403: FailureCause.NO_KEY,
    429: FailureCause.BUSY,
    503: FailureCause.BUSY,
}


def failure_of(failure: Exception) -> RequestFailure:
    """Return why a request failed, from one of FAILURES."""
    if isinstance(failure, openai.APIStatusError):
        return _of_status(failure)
    if isinstance(failure, openai.APIConnectionError):
        return RequestFailure(FailureCause.UNREACHABLE, str(failure.__cause__ or failure))
    return RequestFailure(FailureCause.BROKEN, str(failure) or type(failure).__name__)


def _of_status(failure: Any) -> RequestFailure:
    body = failure.body if isinstance(failure.body, dict) else {}
    cause = _BY_CODE.get(str(body.get("code"))) or _BY_STATUS.get(failure.status_code)
    after = failure.response.headers.get("retry-after", "")
    return RequestFailure(
        cause or FailureCause.FAILED,
        str(body.get("message") or failure.message),
        int(after) if after.isdecimal() else None,
    )
