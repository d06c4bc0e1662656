"""The record of a deployment: the model, the settings, and where its processes listen."""

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from tasks.core.recipe.deploy import Deploy, Gateway
from tasks.core.serving.engines.registry import engine_of
from tasks.core.serving.state.routes import Route, Upstream
from tasks.core.serving.state.slots import Slot

AskedOf = Literal["requests", "prompts"]
"""requests: the last ones of clients. prompts: the evaluation's, if there are none."""


class ShadowAnswer(BaseModel):
    """The answers of the earlier model (None if none served) and the new one to one request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    asked: str
    earlier: str | None
    new: str

    @property
    def begins_the_same(self) -> bool:
        """Whether one answer is the beginning of the other, and neither is empty."""
        earlier, new = (self.earlier or "").strip(), self.new.strip()
        return bool(earlier and new) and (earlier.startswith(new) or new.startswith(earlier))


class Switched(BaseModel):
    """How a deployment replaced the earlier one.

    gap_s: how long clients were told to retry later, 0 when the earlier one served meanwhile.
    cut_off: answers of the earlier one that exceeded their time limit and were ended.
    not_asked: why some or all of the last requests were not answered by both.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    how: Literal["first", "side-by-side", "replace"]
    gap_s: float = 0.0
    cut_off: int = 0
    asked: AskedOf = "requests"
    not_asked: str | None = None
    shadow: tuple[ShadowAnswer, ...] = ()

    @property
    def shown(self) -> tuple[ShadowAnswer, ...]:
        """The answers whose text may be shown: none to the requests of clients.

        They have not consented, and a page, a terminal or a journal would keep the text.
        """
        return self.shadow if self.asked == "prompts" else ()

    @property
    def compared(self) -> str:
        """The result of the comparison: in numbers for clients' requests, else as a heading."""
        if self.asked == "requests":
            same = sum(each.begins_the_same for each in self.shadow)
            empty = sum(not each.new.strip() for each in self.shadow)
            return (
                f"The last requests ({len(self.shadow)}), answered by both: {same} new answers "
                f"begin as the earlier ones did, {empty} are empty. No words of them are shown."
            )
        nobody = "" if self.not_asked else "No client had sent a request; "
        return f"{nobody}{len(self.shadow)} prompts of the evaluation:"


class Deployment(BaseModel):
    """A model that is being served, as the record of its slot holds it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    build: str = Field(description="Identity of the model: an artifact's digest.")
    model: Path = Field(description="The directory that is served; prune keeps it.")
    template: str
    context_tokens: int
    settings: Deploy
    expected_edit: dict[str, JsonValue] | None
    versions: dict[str, str] = Field(description="Of the libraries that serve it.")
    state: Path
    slot: Slot
    engine_port: int = Field(description="On loopback, any free one.")
    started_at: AwareDatetime
    reused: bool = Field(False, exclude=True, description="It was already running.")
    switched: Switched | None = Field(None, exclude=True, description="How it has just started.")

    @property
    def engine_url(self) -> str:
        """Where its engine listens, without a path."""
        return f"http://127.0.0.1:{self.engine_port}"

    @property
    def url(self) -> str:
        """Where this machine reaches its gateway, without a path."""
        return gateway_url(self.settings.gateway)

    @property
    def base_url(self) -> str:
        """The base_url for an OpenAI client on this machine."""
        return f"{self.url}/v1"

    @property
    def page_url(self) -> str | None:
        """The URL of the page, if there is one."""
        page = self.settings.page
        return f"http://127.0.0.1:{page.port}" if page else None

    @property
    def route(self) -> Route:
        """The route of the gateway to it."""
        engine = engine_of(self.settings.engine)
        return Route(
            takes=engine.takes,
            embeds=engine.embeds,
            most_stops=engine.most_stops,
            model_name=self.settings.model_name,
            build=self.build,
            slot=self.slot,
            engine=self.settings.engine,
            template=self.template,
            model=self.model,
            context_tokens=self.context_tokens,
            upstreams=(
                Upstream(name=self.slot, url=self.engine_url),
                *(
                    Upstream(name=w.name, url=w.url, token_variable=w.token_variable)
                    for w in self.settings.workers
                ),
            ),
        )

    def same_service(self, other: "Deployment") -> bool:
        """Return whether clients could not tell this deployment from the other."""
        return self.same_engine(other) and all(
            getattr(self.settings, name) == getattr(other.settings, name) for name in _OF_GATEWAY
        )

    def same_engine(self, other: "Deployment") -> bool:
        """Return whether both run the same engine with the same model."""
        return self._engine_identity() == other._engine_identity()

    def _engine_identity(self) -> dict[str, JsonValue]:
        identity: dict[str, JsonValue] = self.model_dump(
            mode="json",
            exclude={
                **dict.fromkeys(("started_at", "slot", "engine_port"), True),
                "settings": {*_OF_GATEWAY, *_OF_SWITCH},
            },
        )
        return identity


_OF_GATEWAY = ("gateway", "shadow_requests", "page", "workers")
_OF_SWITCH = ("switch", "drain_s", "startup_timeout_s")


def gateway_url(gateway: Gateway) -> str:
    """Return where this machine reaches a gateway of these settings, without a path."""
    address = ipaddress.ip_address(gateway.host)
    if address.is_unspecified:  # every address, loopback among them
        address = ipaddress.ip_address("::1" if address.version == 6 else "127.0.0.1")
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"http://{host}:{gateway.port}"
