"""What the gateway and the deployment say to each other over the control socket.

POST /routes      read routes.json again; answers once the route is in use, or 409 and why not
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
    """What the gateway does now."""

    route: Route | None
    in_flight: dict[str, dict[str, int]] = Field(
        description="By slot and upstream, slots that nothing is routed to any longer included."
    )
    pieces: dict[str, dict[str, int]] = Field(
        description="How many pieces of answers have come from each: a sign of life."
    )
    running: int
    waiting: int

    def in_flight_of(self, engine: str) -> int:
        """Return how much the engine of a slot is asked; its workers do not count."""
        return self.in_flight.get(engine, {}).get(engine, 0)

    def pieces_of(self, engine: str) -> int:
        """Return how many pieces have come from the engine of a slot."""
        return self.pieces.get(engine, {}).get(engine, 0)


class ReportedIncident(_Value):
    """Something that went wrong behind the gateway and was seen by someone else."""

    kind: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$", description="A label in /metrics.")
    detail: str = Field(max_length=2000, description="For the log.")
