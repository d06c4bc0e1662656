"""Which engine gets a request: the one that has least to do; and what is asked where, counted.

The invariant: whatever is asked of an engine is counted under its slot until it has ended, also
once nothing is routed to that slot any longer: a deployment ends an engine when its count is 0.
"""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import httpx

from tasks.core.serving.gateway.engine_client import EngineClient, EngineLost, EngineTimeout, Limits
from tasks.core.serving.routes import Route, Upstream

_REST_S = 10.0
"""How long an upstream that failed is asked only where there is no other."""


class Counted:
    """An upstream of a slot, and how much it is asked now."""

    def __init__(self, slot: str, upstream: Upstream, client: EngineClient) -> None:
        self.slot = slot
        self.name = upstream.name
        self.client = client
        self.in_flight = 0
        self.pieces = 0
        self._failed_at = float("-inf")

    @property
    def resting(self) -> bool:
        """Whether it failed a moment ago."""
        return time.monotonic() - self._failed_at < _REST_S

    @contextmanager
    def asked(self) -> Iterator[EngineClient]:
        """Count one request, and remember when it is lost."""
        self.in_flight += 1
        try:
            yield self.client
        except (EngineLost, EngineTimeout):
            self._failed_at = time.monotonic()
            raise
        finally:
            self.in_flight -= 1


class Upstreams:
    """All that are asked, or were and have not ended yet."""

    def __init__(self, http: httpx.AsyncClient, limits: Limits) -> None:
        self._http = http
        self._limits = limits
        self._all: dict[tuple[str, Upstream], Counted] = {}
        self._turn = 0

    def follow(self, route: Route | None) -> None:
        """Have the upstreams of a route, and forget others once they have nothing to do."""
        routed = {(route.slot, upstream) for upstream in route.upstreams} if route else set()
        kept = {key: one for key, one in self._all.items() if key in routed or one.in_flight}
        for slot, upstream in routed - kept.keys():
            client = EngineClient(self._http, upstream, self._limits)
            kept[slot, upstream] = Counted(slot, upstream, client)
        self._all = kept

    def of(self, route: Route) -> list[Counted]:
        """Return the upstreams of a route that is followed."""
        return [self._all[route.slot, upstream] for upstream in route.upstreams]

    def choose(self, route: Route, tried: Collection[Counted] = ()) -> Counted:
        """Return the one with least in flight, of equals another one each time.

        One that was tried or that failed a moment ago comes last.
        """
        self._turn += 1
        ones = self.of(route)
        start = self._turn % len(ones)
        return min(
            ones[start:] + ones[:start], key=lambda one: (one in tried, one.resting, one.in_flight)
        )

    def pieces(self) -> dict[str, int]:
        """Return how many pieces of answers have come from each slot, of those that are asked."""
        counts: dict[str, int] = {}
        for one in self._all.values():
            counts[one.slot] = counts.get(one.slot, 0) + one.pieces
        return counts

    def in_flight(self) -> dict[str, dict[str, int]]:
        """Return how much each upstream is asked, by slot."""
        counts: dict[str, dict[str, int]] = {}
        for one in self._all.values():
            counts.setdefault(one.slot, {})[one.name] = one.in_flight
        return counts
