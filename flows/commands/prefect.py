"""`kawan-usaha prefect`: server, work pools, deployments and workers on this machine."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from annotated_types import Ge, Le

from flows.commands.notices import notices_app
from flows.commands.numbers import integer
from flows.commands.output import AS_JSON, command_log, show
from flows.commands.prefect_server import here, named_server

prefect_app = typer.Typer(
    no_args_is_help=True, help="Run flows from Prefect's UI, on schedules, again after a crash."
)
Json = Annotated[bool, AS_JSON]


def register(app: typer.Typer) -> None:
    """Add the commands to app."""
    prefect_app.add_typer(notices_app, name="notices")
    app.add_typer(prefect_app, name="prefect")


@prefect_app.command()
def up(
    port: Annotated[
        int | None,
        integer("Of server and UI; 4200 unless it is up at another already.", Ge(1), Le(65535)),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start server and workers on this machine, with this project's work pools and deployments.

    They run on after the command. What is up already is left running; pools, deployments and
    automations are brought up to date. Data and logs are in `prefect` below KAWAN_USAHA_HOME. The
    database is SQLite, or the one that PREFECT_SERVER_DATABASE_CONNECTION_URL names; several
    servers on one PostgreSQL share the Redis that KAWAN_USAHA_REDIS names too.
    """
    from flows.installation import install
    from flows.operations import up as start

    say = partial(typer.echo, err=True)
    put = partial(install, log=command_log("prefect-deploy"), say=say)
    address = start(here(), port, install=put, say=say)
    ui = address.removesuffix("/api")
    text = _NEXT.format(ui=ui, api=address, bin=Path(sys.executable).parent)
    show({"api": address, "ui": ui}, as_json=as_json, text=text)


@prefect_app.command()
def down(as_json: Json = False) -> None:
    """End server, workers and the runs in progress. Data and logs stay, and so do served models."""
    from flows.operations import down as end

    ended = end(here(), say=partial(typer.echo, err=True))
    text = f"Ended: {', '.join(ended)}." if ended else "Nothing was up."
    show({"ended": list(ended)}, as_json=as_json, text=text)


@prefect_app.command("install")
def install_on_server() -> None:
    """Put work pools, deployments and automations on the server that PREFECT_API_URL names.

    For a server of your own; `up` does it for the one that it starts.
    """
    from flows.installation import install

    address = named_server(or_here=False)
    install(address, log=command_log("prefect-deploy"), say=partial(typer.echo, err=True))
    typer.echo(f"Pools, deployments and automations are on {address}.")


_NEXT = """
Prefect is up: {ui}

Type next, in this shell or in another:
  export PREFECT_API_URL={api}
  export PATH={bin}:$PATH
  prefect deployment run rebuild-recipe/demo   the whole lifecycle on a small model
  prefect deployment ls                        everything that can be run
  kawan-usaha status                           runs, schedules that are on, served models
  kawan-usaha prefect notices install --help   be told by mail, chat or webhook
  kawan-usaha prefect down                     end all of it; data and logs stay
Schedules are off. To switch one on: its deployment's page in the UI.
"""
