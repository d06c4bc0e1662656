"""Choosing the engine for a request, the least busy one, and counting requests in flight.

The invariant: a request is counted under its slot until it has ended, even when the slot no longer
has a route, because a deployment stops an engine when its count is 0.
"""

import asyncio
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.serving.client.access import Access
from tasks.core.serving.client.worker_access import read_access
from tasks.core.serving.gateway.connections import Connections
from tasks.core.serving.gateway.engine_client import (
    EngineClient,
    EngineLimits,
    EngineLost,
    EngineTimeout,
)
from tasks.core.serving.state.routes import Route, Upstream

_REST_S = 10.0
"""How long an upstream that failed is used only if there is no other."""
_LOOK_EVERY_S = 2.0


class CountedUpstream:
    """An upstream of a slot, with its requests in flight."""

    def __init__(self, slot: str, upstream: Upstream, client: EngineClient) -> None:
        self.slot = slot
        self.name = upstream.name
        self.is_worker = upstream.is_worker
        self.client = client
        self.in_flight = 0
        self.pieces = 0
        self._lost_at: float | None = None

    @property
    def is_lost(self) -> bool:
        """Whether it failed, and has not been ready since."""
        return self._lost_at is not None

    @contextmanager
    def one_request(self) -> Iterator[EngineClient]:
        """Count one request, and note when the upstream is lost."""
        self.in_flight += 1
        try:
            yield self.client
        except (EngineLost, EngineTimeout):
            self._lost_at = time.monotonic()
            raise
        finally:
            self.in_flight -= 1

    async def find_again(self) -> None:
        """Check a lost upstream for readiness, after a pause."""
        lost_at = self._lost_at
        if lost_at is None or time.monotonic() - lost_at < _REST_S:
            return
        if await self.client.ready() and self._lost_at == lost_at:
            self._lost_at = None


class Upstreams:
    """All upstreams that have a route, or still have requests in flight.

    workers is the file with the access to those on other machines.
    """

    def __init__(
        self, connections: Connections, limits: EngineLimits, workers: Path | None
    ) -> None:
        self._connections = connections
        self._limits = limits
        self._workers = workers
        self._all: dict[tuple[str, Upstream], CountedUpstream] = {}
        self._turn = 0

    def follow(self, route: Route | None) -> None:
        """Use the upstreams of a route, and drop others once they have no requests.

        Raises ServingFailed, and changes nothing, if the access to its workers cannot be read.
        """
        access = read_access(self._workers) if self._workers else {}
        routed = {(route.slot, one): route for one in route.upstreams} if route else {}
        kept = {key: one for key, one in self._all.items() if key in routed or one.in_flight}
        for (slot, upstream), of in routed.items():
            client = self._client(upstream, of.build, access.get(upstream.url))
            one = kept.setdefault((slot, upstream), CountedUpstream(slot, upstream, client))
            one.client = client
        self._all = kept

    def of(self, route: Route, *, own_only: bool = False) -> list[CountedUpstream]:
        """Return the upstreams of the current route; own_only leaves out its workers."""
        ones = [self._all[route.slot, upstream] for upstream in route.upstreams]
        return [one for one in ones if not (own_only and one.is_worker)]

    def choose(
        self, route: Route, tried: Collection[CountedUpstream] = (), *, own_only: bool = False
    ) -> CountedUpstream:
        """Return the upstream with the fewest requests in flight; among equals, take turns.

        Those that were tried or are lost come last.
        """
        self._turn += 1
        ones = self.of(route, own_only=own_only)
        start = self._turn % len(ones)
        return min(
            ones[start:] + ones[:start], key=lambda one: (one in tried, one.is_lost, one.in_flight)
        )

    async def find_again(self) -> None:
        """Check lost upstreams for ever, so that no client has to find out."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await asyncio.gather(*(one.find_again() for one in self._all.values() if one.is_lost))

    def pieces(self) -> dict[str, dict[str, int]]:
        """Return how many pieces of answers have come from each upstream, by slot."""
        counts: dict[str, dict[str, int]] = {}
        for one in self._all.values():
            counts.setdefault(one.slot, {})[one.name] = one.pieces
        return counts

    def in_flight(self) -> dict[str, dict[str, int]]:
        """Return the requests in flight to each upstream, by slot."""
        counts: dict[str, dict[str, int]] = {}
        for one in self._all.values():
            counts.setdefault(one.slot, {})[one.name] = one.in_flight
        return counts

    def _client(self, upstream: Upstream, build: str, access: Access | None) -> EngineClient:
        if upstream.is_worker and access is None:
            access = Access(key="")  # it will be refused, and the others answer
        http = self._connections.trusting(access.certificate if access else None)
        return EngineClient(http, upstream, self._limits, build=build, access=access)
