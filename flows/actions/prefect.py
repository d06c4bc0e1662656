"""Start and stop the Prefect of this machine, and install this project on a server."""

from functools import partial

import typer

from flows.command_line.output import command_log
from flows.command_line.which_server import local_prefect
from flows.installation import install_on_server
from flows.prefect_server.start_stop import start_prefect, stop_prefect

_say = partial(typer.echo, err=True)


def start_local(port: int | None) -> str:
    """Start server and workers, and install this project; return the address of the API."""
    return start_prefect(local_prefect(), port, install=install_at, say=_say)


def stop_local() -> tuple[str, ...]:
    """Stop server, workers and runs; return the names of what ran."""
    return stop_prefect(local_prefect(), say=_say)


def install_at(address: str) -> None:
    """Install work pools, deployments and automations on the server at this address."""
    install_on_server(address, log=command_log("prefect-deploy"), say=_say)
