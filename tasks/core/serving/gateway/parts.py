"""The state of a gateway, shared by the public API and the control socket."""

import asyncio
from dataclasses import dataclass

from tasks.core.serving.gateway.connections import Connections
from tasks.core.serving.gateway.engine_client import EngineLimits
from tasks.core.serving.gateway.keeping import Keeping
from tasks.core.serving.gateway.keys import Keys
from tasks.core.serving.gateway.metrics import Metrics
from tasks.core.serving.gateway.places import GatewayPlaces
from tasks.core.serving.gateway.recent import Recent
from tasks.core.serving.gateway.routing import Routing
from tasks.core.serving.gateway.settings import GatewaySettings
from tasks.core.serving.gateway.upstreams import Upstreams


@dataclass(frozen=True)
class Parts:
    """The parts of a gateway. Create them inside the running loop."""

    settings: GatewaySettings
    keys: Keys
    routing: Routing
    upstreams: Upstreams
    places: GatewayPlaces
    metrics: Metrics
    recent: Recent
    keeping: Keeping
    ending: asyncio.Event
    """Set when the process is stopping: connections are then closed after their answer."""

    @classmethod
    def of(cls, settings: GatewaySettings, keys: Keys, connections: Connections) -> "Parts":
        """Return the parts of a new gateway."""
        limits = EngineLimits(settings.first_token_s, settings.between_tokens_s)
        upstreams = Upstreams(connections, limits, settings.workers)
        places = GatewayPlaces(settings.gateway.max_running, settings.gateway.max_queued)
        metrics = Metrics(lambda: places.running, lambda: places.waiting, upstreams.in_flight)
        return cls(
            settings=settings,
            keys=keys,
            routing=Routing(settings.routes, upstreams),
            upstreams=upstreams,
            places=places,
            metrics=metrics,
            recent=Recent(settings.shadow_requests),
            keeping=Keeping(settings.collected, settings.collect, metrics.incident),
            ending=asyncio.Event(),
        )
