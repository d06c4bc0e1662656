"""`kawan-usaha logs`."""

from typing import Annotated

import typer
from annotated_types import Ge

from flows.command_line.numbers import integer
from flows.command_line.which_deployment import DeploymentName, chosen_deployment
from tasks.core.errors import UsageError
from tasks.core.home import home
from tasks.core.serving.state.directory import state_directory


def logs(
    name: DeploymentName = None,
    process: Annotated[
        str | None,
        typer.Option(help="Only of this one: gateway-0, watch, blue, green or supervisord."),
    ] = None,
    lines: Annotated[int, integer("How many lines of each, from the end.", Ge(1))] = 40,
) -> None:
    """Show the last lines of a deployment's logs, and its incidents.

    Example: `kawan-usaha logs --process blue --lines 200`
    """
    state = state_directory(home(), chosen_deployment(name))
    found = sorted(path for path in state.logs.glob("*") if path.suffix in (".log", ".jsonl"))
    chosen = [path for path in found if process in (None, path.stem)]
    if not chosen:
        raise UsageError(
            "There is no such log.",
            where=state.logs,
            expected=", ".join(path.stem for path in found) or "a deployment that was started",
            found=process,
        )
    for path in chosen:
        typer.echo(f"== {path}")
        typer.echo("\n".join(path.read_text(errors="replace").splitlines()[-lines:]))
