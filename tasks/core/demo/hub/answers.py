"""How the embedded Hub refuses a request: the status codes and headers that huggingface_hub reads.

The client chooses its exception by `X-Error-Code` and `X-Error-Message`
(`huggingface_hub.utils._http.hf_raise_for_status`); the texts follow huggingface.co.
"""

from fastapi import Request
from fastapi.responses import JSONResponse


class HubRefusal(Exception):
    """An answer other than success, with what the client needs to choose its exception."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, url: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.url = url


def refusal_response(_: Request, refusal: Exception) -> JSONResponse:
    """Return the HTTP answer of a HubRefusal."""
    if not isinstance(refusal, HubRefusal):
        raise TypeError(f"{type(refusal).__name__} is not a HubRefusal") from refusal
    headers = {"X-Error-Message": refusal.message}
    if refusal.code is not None:
        headers["X-Error-Code"] = refusal.code
    content = {"error": refusal.message}
    if refusal.url is not None:
        content["url"] = refusal.url
    return JSONResponse(content, refusal.status, headers=headers)


def repository_not_found(*, anonymous: bool) -> HubRefusal:
    """Return the answer for a repository that is missing or invisible, which must look alike.

    An anonymous client is told 401, as on huggingface.co, so that it may try again with a token.
    """
    if anonymous:
        return HubRefusal(401, "Invalid username or password.", code="RepoNotFound")
    return HubRefusal(404, "Repository not found", code="RepoNotFound")


def revision_not_found(revision: str) -> HubRefusal:
    """Return the answer for a branch, tag or commit that the repository does not have."""
    return HubRefusal(404, f"Invalid rev id: {revision}", code="RevisionNotFound")


def entry_not_found(path: str) -> HubRefusal:
    """Return the answer for a path that a revision does not have."""
    return HubRefusal(404, f'Entry "{path}" not found', code="EntryNotFound")
