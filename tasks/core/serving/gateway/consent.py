"""A person's consent to have an answer stored, and the feedback that they send later.

`store: true` is OpenAI's field for it; a header does the same for clients that cannot set it.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from starlette.datastructures import Headers

from tasks.core.collected.storage.records import LONGEST_CORRECTION
from tasks.core.serving.gateway.api_error import refused
from tasks.core.serving.gateway.requests import ChatRequest, RequestBody, UserId

CONSENT_HEADER = "x-kawan-usaha-consent"

_Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_CORRECTION)
]


class FeedbackRequest(RequestBody):
    """The body of /v1/feedback: a person's rating of a stored answer."""

    id: str = Field(pattern=r"^[\w.-]{1,128}$", description="Of the completion.")
    user: UserId
    verdict: Literal["up", "down"] | None = None
    correction: _Text | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.verdict is None and self.correction is None:
            raise ValueError("verdict or correction must be given")
        return self


class ForgetRequest(RequestBody):
    """The body of /v1/forget."""

    user: UserId


def consents(headers: Headers) -> bool:
    """Return whether the header allows the answer to be stored."""
    return headers.get(CONSENT_HEADER, "").strip().lower() == "store"


def require_keepable(request: ChatRequest, *, collects: bool) -> None:
    """Raise ApiError unless the answer to a request with consent can be stored."""
    if not collects:
        raise refused("store", "store: this deployment keeps no conversations.")
    if request.user is None:
        raise refused("user", "user: an id of the person is needed with store: true.")
    if request.n > 1:
        raise refused("n", "n: one answer at a time is kept with store: true.")
    if isinstance(request.messages, str) or request.messages[-1].role != "user":
        raise refused("messages", "messages: with store: true the last one must be a question.")
