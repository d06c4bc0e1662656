"""`kawan-usaha prefect`: server, work pools, deployments and workers."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from annotated_types import Ge, Le

from flows.command_line.numbers import integer
from flows.command_line.output import AsJson, show
from flows.command_line.which_server import server_address
from flows.commands import prefect_notices

app = typer.Typer(
    no_args_is_help=True,
    help="Run flows from Prefect's UI, on schedules, and restart them after a crash.",
)
app.add_typer(prefect_notices.app, name="notices")


@app.command()
def up(
    port: Annotated[
        int | None,
        integer("Port of server and UI; by default 4200, or where it runs.", Ge(1), Le(65535)),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start server and workers on this machine, with this project's work pools and deployments.

    They keep running after the command. What is running already stays; pools, deployments and
    automations are updated. Data and logs are in `prefect` below KAWAN_USAHA_HOME. The database is
    SQLite, or the one that PREFECT_SERVER_DATABASE_CONNECTION_URL names; several servers on one
    PostgreSQL also share the Redis that KAWAN_USAHA_REDIS names.

    Example: `kawan-usaha prefect up --port 4201`
    """
    from flows.actions.prefect import start_local

    address = start_local(port)
    ui = address.removesuffix("/api")
    text = _NEXT.format(ui=ui, api=address, bin=Path(sys.executable).parent)
    show({"api": address, "ui": ui}, as_json=as_json, text=text)


@app.command()
def down(as_json: AsJson = False) -> None:
    """Stop server, workers and the runs in progress. Data, logs and served models stay.

    Example: `kawan-usaha prefect down`
    """
    from flows.actions.prefect import stop_local

    stopped = stop_local()
    text = f"Stopped: {', '.join(stopped)}." if stopped else "Nothing was running."
    show({"ended": list(stopped)}, as_json=as_json, text=text)


@app.command()
def install() -> None:
    """Install work pools, deployments and automations on the server that PREFECT_API_URL names.

    For a server of your own; `up` does it for the one that it starts.

    Example: `kawan-usaha prefect install`
    """
    from flows.actions.prefect import install_at

    address = server_address(or_local=False)
    install_at(address)
    typer.echo(f"Pools, deployments and automations are installed on {address}.")


_NEXT = """
Prefect is up: {ui}

Run next, in this shell or another:
  export PREFECT_API_URL={api}
  export PATH={bin}:$PATH
  prefect deployment run rebuild-recipe/demo   the whole lifecycle on a small model
  prefect deployment ls                        everything that can be run
  kawan-usaha status                           runs, active schedules, served models
  kawan-usaha prefect notices install --help   notices by mail, chat or webhook
  kawan-usaha prefect down                     stop everything; data and logs stay
Schedules are off. Switch one on at the page of its deployment in the UI.
"""
