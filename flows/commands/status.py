"""`kawan-usaha status`."""

import itertools
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from flows.command_line.output import AsJson, show
from flows.command_line.which_server import local_prefect
from tasks.core.home import home
from tasks.core.machine.activity import running_work
from tasks.core.serving.observe.status import DeploymentStatus
from tasks.core.serving.observe.status import status as deployment_statuses

if TYPE_CHECKING:
    from flows.prefect_server.overview import Overview


def status(as_json: AsJson = False) -> None:
    """Show what is running and deployed, and whether each deployment answers right now.

    Rebuilds and commands that are running are listed with the artifacts and devices that they hold,
    and since when. Of a server that `kawan-usaha prefect up` started, the unfinished runs and the
    active schedules are shown. Exit code 1 if a deployment is not healthy.

    Example: `kawan-usaha status --json`
    """
    at_work, deployed = running_work(home()), deployment_statuses(home())
    prefect = _prefect_at(address) if (address := local_prefect().address()) else None
    parts = [*map(str, at_work), *map(_text_of, deployed)]
    parts += [] if deployed else ["Nothing is deployed."]
    parts += [str(prefect)] if prefect else []
    result = {
        "running": at_work,
        "deployments": [asdict(each) for each in deployed],
        "prefect": prefect,
    }
    show(result, as_json=as_json, text="\n\n".join(parts))
    if any(each.health != "healthy" for each in deployed):
        raise typer.Exit(1)


def _prefect_at(address: str) -> "Overview":
    from flows.prefect_server.overview import overview  # httpx loads longer than all the rest

    return overview(address)


def _text_of(each: DeploymentStatus) -> str:
    url = each.deployment.base_url if each.deployment else "-"
    lines = [f"{each.name}: {each.health}  {url}"]
    if each.report is not None and each.report.edit is not None:
        lines.append(f"  activations in the engine: {_layers(each.report.edit['activations'])}")
    for process in each.processes:
        memory = f"{process.memory_bytes / 1e9:.2f} GB" if process.memory_bytes else "-"
        where = f"port {process.port}" if process.port else ""
        lines.append(f"  {process.name:<12} {process.state:<9} {memory:>9} {where}")
    lines += [
        f"  {worker.name:<12} {worker.problem or 'answers'}  {worker.url}"
        for worker in each.workers
    ]
    return "\n".join([*lines, *([f"  {each.problem}"] if each.problem else [])])


def _layers(activations: object) -> str:
    """Return equal neighbours as one range: layers 0-38 silu, layer 39 gelu."""
    if not isinstance(activations, list):
        return str(activations)
    ranges, first = [], 0
    for name, group in itertools.groupby(activations):
        last = first + len(list(group)) - 1
        ranges.append(f"layer {first} {name}" if first == last else f"layers {first}-{last} {name}")
        first = last + 1
    return ", ".join(ranges)
