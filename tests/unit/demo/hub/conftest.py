"""The fixtures of a running embedded Hub are those that its clients are tested with."""

from tests.unit.hub.conftest import faults, hub, model, owner, published

__all__ = ["faults", "hub", "model", "owner", "published"]
