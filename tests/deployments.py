"""Deployments on record that nobody started."""

from datetime import UTC, datetime
from pathlib import Path

from tasks.core.recipe import Deploy
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.files import write_record, write_routes
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.state.routes import Routes


def deployment(state: StateDirectory, **changes: object) -> Deployment:
    """Return a record that a deployment of this state directory might have."""
    values = {
        "name": state.name,
        "build": "b1",
        "model": Path("/models/one"),
        "template": "vicuna_v1.1",
        "context_tokens": 2048,
        "settings": Deploy(),
        "expected_edit": {"activations": ["gelu"]},
        "versions": {"torch": "2"},
        "state": state.root,
        "slot": "blue",
        "engine_port": 40001,
        "started_at": datetime(2026, 11, 24, tzinfo=UTC),
        **changes,
    }
    return Deployment.model_validate(values)


def put_on_record(state: StateDirectory, record: Deployment) -> None:
    """Write what is on the disk while the deployment serves."""
    slot = state.slot(record.slot)
    slot.prepare(record.model)
    write_record(state, record)
    write_routes(state, Routes(route=record.route))
