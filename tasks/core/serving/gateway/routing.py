"""The current route: read from its file, loaded with everything that a request needs, then used.

The invariant: a new route takes effect completely or not at all. While it is being loaded, requests
go to the old one, which also stays if the file cannot be used.
"""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from tasks.core.errors import ServingFailed
from tasks.core.serving.gateway.api_error import ApiError, no_engine
from tasks.core.serving.gateway.prompts import Prompts
from tasks.core.serving.gateway.upstreams import Upstreams
from tasks.core.serving.state.routes import Route, Routes


@dataclass(frozen=True)
class LoadedRoute:
    """A route with the tokenizer and template for its prompts."""

    route: Route
    prompts: Prompts
    since: int = field(default_factory=lambda: int(time.time()))


class Routing:
    """Where requests go."""

    def __init__(self, file: Path, upstreams: Upstreams) -> None:
        self._file = file
        self._upstreams = upstreams
        self._reading = asyncio.Lock()
        self._why_not = "This deployment has not started yet."
        self._retry_after_s = 30
        self.loaded: LoadedRoute | None = None

    def current(self) -> LoadedRoute:
        """Return the route in use. Raises ApiError (503) while there is none."""
        if self.loaded is None:
            raise self.nothing()
        return self.loaded

    def nothing(self, why: str | None = None) -> ApiError:
        """Return the error while nothing can answer."""
        return no_engine(why or self._why_not, self._retry_after_s)

    async def read(self) -> None:
        """Use the routes of the file. Raises KawanUsahaError and changes nothing if it cannot."""
        async with self._reading:
            routes = _routes(self._file)
            loaded = await self._load(routes.route) if routes.route else None
            self._upstreams.follow(routes.route)
            self.loaded = loaded
            self._why_not = routes.why_not or "No model is being served at the moment."
            self._retry_after_s = routes.retry_after_s

    async def read_if_there(self) -> None:
        """Use the routes of the file at startup; without a file there is no route."""
        if self._file.exists():
            await self.read()

    async def _load(self, route: Route) -> LoadedRoute:
        now = self.loaded
        if now is not None and _same_model(now.route, route):
            return LoadedRoute(route, now.prompts, now.since)
        prompts = await asyncio.to_thread(
            Prompts, route.model, route.template, route.context_tokens
        )
        return LoadedRoute(route, prompts)


def _same_model(old: Route, new: Route) -> bool:
    # Including the build, because the directory may hold another model by now.
    return all(
        getattr(old, name) == getattr(new, name)
        for name in ("build", "model", "template", "context_tokens")
    )


def _routes(file: Path) -> Routes:
    try:
        return Routes.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise ServingFailed(
            "The routes cannot be read.",
            where=file,
            found=error,
            next_step="The current route stays in use. `kawan-usaha deploy` writes the file.",
        ) from error
