"""The records and the routes of a deployment: which slot serves, and what was proven in each.

The invariant: what serves is the record of the slot that routes.json names, and nothing else says
so. A route names only what has been proven.
"""

from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from tasks.core.errors import ServingFailed
from tasks.core.files.durable import write_atomically
from tasks.core.serving.state.directory import StateDirectory, state_directories
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.state.routes import Route, Routes
from tasks.core.serving.state.slots import SLOTS, Slot, other

_Model = TypeVar("_Model", bound=BaseModel)


def read_deployment(state: StateDirectory) -> Deployment | None:
    """Return the deployment that serves, None without one.

    Raises ServingFailed when the files cannot be read by this version.
    """
    routes = read_routes(state)
    if routes is None or routes.route is None:
        return None
    return read_record(state, slot_of(routes.route))


def read_previous(state: StateDirectory) -> Deployment | None:
    """Return the deployment that served before, None without one; its model may be gone.

    If nothing serves, that is the last one that did. Raises as `read_deployment`.
    """
    routes = read_routes(state)
    if routes is not None and routes.route is not None:
        return read_record(state, other(slot_of(routes.route)))
    records = [read_record(state, slot) for slot in SLOTS]
    return max((r for r in records if r), key=lambda r: r.started_at, default=None)


def read_routes(state: StateDirectory) -> Routes | None:
    """Return the routes. Raises ServingFailed when they cannot be read."""
    return _read(state, state.routes, Routes)


def read_record(state: StateDirectory, slot: Slot) -> Deployment | None:
    """Return what was last proven in a slot. Raises ServingFailed when it cannot be read."""
    return _read(state, state.slot(slot).record, Deployment)


def started_before(state: StateDirectory) -> list[datetime]:
    """Return the start times of all records; one that cannot be read has none."""
    times = []
    for slot in SLOTS:
        with suppress(ServingFailed):
            record = read_record(state, slot)
            times += [record.started_at] if record else []
    return times


def used_builds(home: Path) -> set[str]:
    """Return the builds that serve, are being started, or may serve again; prune keeps them.

    Read from the links to the models, so that a model is protected even while its record is missing
    or cannot be read.
    """
    links = [state.slot(slot).model for state in state_directories(home) for slot in SLOTS]
    return {link.readlink().name for link in links if link.is_symlink()}


def write_routes(state: StateDirectory, routes: Routes) -> None:
    """Set which slot serves, or that none does. Then the gateway has to be asked to read it."""
    write_atomically(state.routes, routes.model_dump_json(indent=2))


def write_record(state: StateDirectory, deployment: Deployment) -> None:
    """Record that a deployment has been proven in its slot."""
    record = state.slot(deployment.slot).record
    write_atomically(record, deployment.model_dump_json(indent=2))


def slot_of(route: Route) -> Slot:
    """Return the slot of a route."""
    return "green" if route.slot == "green" else "blue"


def _read(state: StateDirectory, path: Path, kind: type[_Model]) -> _Model | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise _unreadable(state, path, f"{error.error_count()} wrong fields") from error
    except OSError as error:
        raise _unreadable(state, path, error.strerror) from error


def _unreadable(state: StateDirectory, path: Path, found: str | None) -> ServingFailed:
    return ServingFailed(
        "The record of a deployment cannot be read.",
        where=path,
        found=found,
        next_step=f"`kawan-usaha stop {state.name}`, then deploy again.",
    )
