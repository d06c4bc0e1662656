"""Error responses, with one body that old and new clients both understand.

FastChat's clients read `code`, a number (Kawan Usaha's backend of 2023 shortens a conversation when
it is above 0); OpenAI's read `error` and the HTTP status. The invariant: every error response of
the gateway is an ApiError, and every ApiError has both.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from fastapi.responses import JSONResponse
from pydantic_core import to_json


class FastChatCode(IntEnum):
    """The numbers of `fastchat.constants.ErrorCode` that the gateway uses (a test compares)."""

    VALIDATION_TYPE_ERROR = 40001
    INVALID_AUTH_KEY = 40101
    INCORRECT_AUTH_KEY = 40102
    NO_PERMISSION = 40103
    INVALID_MODEL = 40301
    PARAM_OUT_OF_RANGE = 40302
    CONTEXT_OVERFLOW = 40303
    RATE_LIMIT = 42901
    ENGINE_OVERLOADED = 42903
    INTERNAL_ERROR = 50001
    CONTROLLER_NO_WORKER = 50005
    CONTROLLER_WORKER_TIMEOUT = 50006


@dataclass(frozen=True)
class _Kind:
    status: int
    type: str
    code: str | None


_KINDS = {
    FastChatCode.VALIDATION_TYPE_ERROR: _Kind(400, "invalid_request_error", None),
    FastChatCode.INVALID_AUTH_KEY: _Kind(401, "invalid_request_error", "missing_api_key"),
    FastChatCode.INCORRECT_AUTH_KEY: _Kind(401, "invalid_request_error", "invalid_api_key"),
    FastChatCode.NO_PERMISSION: _Kind(403, "invalid_request_error", "forbidden"),
    FastChatCode.INVALID_MODEL: _Kind(404, "invalid_request_error", "model_not_found"),
    FastChatCode.PARAM_OUT_OF_RANGE: _Kind(400, "invalid_request_error", None),
    FastChatCode.CONTEXT_OVERFLOW: _Kind(400, "invalid_request_error", "context_length_exceeded"),
    FastChatCode.RATE_LIMIT: _Kind(429, "rate_limit_error", "rate_limit_exceeded"),
    FastChatCode.ENGINE_OVERLOADED: _Kind(429, "rate_limit_error", "engine_overloaded"),
    FastChatCode.INTERNAL_ERROR: _Kind(500, "server_error", "internal_error"),
    FastChatCode.CONTROLLER_NO_WORKER: _Kind(503, "server_error", "no_engine"),
    FastChatCode.CONTROLLER_WORKER_TIMEOUT: _Kind(504, "server_error", "engine_timeout"),
}


class ApiError(Exception):
    """A request that is refused or failed. The status follows from the code unless it is given."""

    def __init__(
        self,
        code: FastChatCode,
        message: str,
        *,
        param: str | None = None,
        status: int | None = None,
        error_code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        kind = _KINDS[code]
        self.code = code
        self.message = message
        self.status = status or kind.status
        self.retry_after_s = retry_after_s
        self._error = {
            "message": message,
            "type": kind.type,
            "param": param,
            "code": error_code or kind.code,
        }

    def body(self) -> dict[str, Any]:
        """Return FastChat's fields and OpenAI's object."""
        return {
            "object": "error",
            "message": self.message,
            "code": int(self.code),
            "error": self._error,
        }

    def response(self) -> JSONResponse:
        """Return the HTTP response."""
        headers: dict[str, str] = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(), self.status, headers)

    def event(self) -> bytes:
        """Return the event for an error in the middle of a stream.

        FastChat's clients look for `error_code` and `text` there, OpenAI's for `error`.
        """
        body = {"text": self.message, "error_code": int(self.code), **self.body()}
        return b"data: " + to_json(body) + b"\n\n"


def refused(param: str, message: str) -> ApiError:
    """Return the error for a field that is invalid or not supported."""
    return ApiError(FastChatCode.PARAM_OUT_OF_RANGE, message, param=param)


def no_engine(message: str, retry_after_s: int) -> ApiError:
    """Return the error while nothing can answer."""
    return ApiError(FastChatCode.CONTROLLER_NO_WORKER, message, retry_after_s=retry_after_s)
