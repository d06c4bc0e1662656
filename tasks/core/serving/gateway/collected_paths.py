"""The paths for answers collected with consent: rating one, and deleting one's own."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tasks.core.serving.gateway.body import Bodies
from tasks.core.serving.gateway.clients import client_of
from tasks.core.serving.gateway.consent import FeedbackRequest, ForgetRequest
from tasks.core.serving.gateway.parts import Parts
from tasks.core.serving.gateway.request_body import read_request


class CollectedPaths:
    """Every handler raises ApiError or ClientGone."""

    def __init__(self, parts: Parts) -> None:
        self._keeping = parts.keeping
        self._bodies = Bodies(parts.settings)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/feedback", self.feedback, methods=["POST"]),
            Route("/v1/forget", self.forget, methods=["POST"]),
        ]

    async def feedback(self, request: Request) -> Response:
        """Store a rating, a correction, or both."""
        asked = read_request(FeedbackRequest, await self._bodies.of(request))
        client = client_of(request)
        with client.one_request():
            await self._keeping.rate(asked, client.name)
        return Response(status_code=204)

    async def forget(self, request: Request) -> Response:
        """Delete everything that was collected of a person."""
        asked = read_request(ForgetRequest, await self._bodies.of(request))
        client = client_of(request)
        with client.one_request():
            return JSONResponse({"deleted": await self._keeping.forget(asked.user, client.name)})
