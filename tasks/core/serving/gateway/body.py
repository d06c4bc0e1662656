"""Reading the body of a request, with limits on size and time."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from tasks.core.serving.gateway.api_error import ApiError, FastChatCode
from tasks.core.serving.gateway.attending import ClientGone
from tasks.core.serving.gateway.settings import GatewaySettings


class Bodies:
    """Reads bodies within the limits of the settings."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._max_bytes = settings.gateway.max_body_bytes
        self._client_s = settings.client_s

    async def of(self, request: Request) -> bytes:
        """Return the body; stop reading one that is too long.

        Raises ApiError and ClientGone.
        """
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._max_bytes:
            raise self._too_long()
        body = bytearray()
        try:
            async with asyncio.timeout(self._client_s):
                async for piece in request.stream():
                    body += piece
                    if len(body) > self._max_bytes:
                        raise self._too_long()
        except ClientDisconnect:
            raise ClientGone from None
        except TimeoutError:
            raise ApiError(
                FastChatCode.VALIDATION_TYPE_ERROR,
                f"The request did not arrive within {self._client_s:.0f} s.",
                status=408,
                error_code="request_timeout",
            ) from None
        return bytes(body)

    def _too_long(self) -> ApiError:
        return ApiError(
            FastChatCode.PARAM_OUT_OF_RANGE,
            f"The request is longer than {self._max_bytes} bytes.",
            status=413,
            error_code="request_too_large",
        )
