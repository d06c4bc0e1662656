"""The server of the control socket, which only its owner can reach: its mode is 0600."""

import logging

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from tasks.core.errors import KawanUsahaError
from tasks.core.serving.gateway.api import Api
from tasks.core.serving.gateway.control_protocol import GatewayState, ReportedIncident
from tasks.core.serving.gateway.keys import Keys
from tasks.core.serving.gateway.parts import Parts
from tasks.core.serving.gateway.recent import RecentAnswer

_LOG = logging.getLogger(__name__)


def control_api(parts: Parts) -> FastAPI:
    """Return the application behind the control socket."""
    app = FastAPI(openapi_url=None)

    @app.exception_handler(KawanUsahaError)
    async def refused(_request: Request, error: KawanUsahaError) -> JSONResponse:
        _LOG.error("refused: %s", error)
        return JSONResponse(error.as_dict(), status_code=409)

    @app.post("/routes")
    async def read_routes() -> GatewayState:
        await parts.routing.read()
        now = _state(parts)
        _LOG.info("routed to %s", now.route and f"{now.route.slot}, build {now.route.build}")
        return now

    @app.post("/keys")
    async def read_keys() -> int:
        return parts.keys.read()

    @app.get("/state")
    async def get_state() -> GatewayState:
        return _state(parts)

    @app.get("/recent")
    async def get_recent() -> list[RecentAnswer]:
        return parts.recent.all()

    @app.post("/incidents", status_code=204)
    async def count_incident(incident: ReportedIncident) -> None:
        parts.metrics.incident(incident.kind)
        _LOG.warning("incident %s: %r", incident.kind, incident.detail)

    @app.get("/metrics")
    async def get_metrics() -> PlainTextResponse:
        return PlainTextResponse(parts.metrics.text())

    # Whoever can open the socket owns the deployment and needs no key, such as the watch, which
    # asks for tokens. Only the places limit it.
    app.mount("/", Api(parts).app(Keys(None, {}, anybody="control")))

    return app


def _state(parts: Parts) -> GatewayState:
    loaded = parts.routing.loaded
    return GatewayState(
        route=loaded and loaded.route,
        in_flight=parts.upstreams.in_flight(),
        pieces=parts.upstreams.pieces(),
        running=parts.places.running,
        waiting=parts.places.waiting,
    )
