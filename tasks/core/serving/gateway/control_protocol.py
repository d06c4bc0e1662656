"""The protocol of the control socket between the gateway and the deployment.

POST /routes      read routes.json again; answers once it is in use, or 409 with the error
POST /keys        read the keys again
GET  /state       GatewayState
GET  /recent      [RecentAnswer]: the last answers, the oldest first
POST /incidents   Incident: count and log it
GET  /metrics     as on the public port
     /v1/...      the API, without a key
"""

from pydantic import BaseModel, ConfigDict, Field

from tasks.core.serving.state.routes import Route


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GatewayState(_Value):
    """The state of the gateway."""

    route: Route | None
    in_flight: dict[str, dict[str, int]] = Field(
        description="By slot and upstream, including slots without a route."
    )
    pieces: dict[str, dict[str, int]] = Field(
        description="How many pieces of answers have come from each, to see that it works."
    )
    running: int
    waiting: int

    def in_flight_of(self, engine: str) -> int:
        """Return the requests in flight to the engine of a slot, without its workers."""
        return self.in_flight.get(engine, {}).get(engine, 0)

    def pieces_of(self, engine: str) -> int:
        """Return how many pieces have come from the engine of a slot."""
        return self.pieces.get(engine, {}).get(engine, 0)


class ReportedIncident(_Value):
    """A problem behind the gateway that another process has found."""

    kind: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$", description="A label in /metrics.")
    detail: str = Field(max_length=2000, description="For the log.")
