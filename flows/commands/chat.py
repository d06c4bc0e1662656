"""`kawan-usaha chat`: talk with a deployed model, in the terminal or in a browser."""

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from annotated_types import Ge, Le

from flows.commands.deployments import Name, deployment_of, the_one
from flows.commands.numbers import decimal, integer
from flows.commands.words import read_line, typed

if TYPE_CHECKING:
    from tasks.core.serving.client.chat import Talk
    from tasks.core.serving.state.record import Deployment


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command()(chat)


def chat(
    name: Name = None,
    *,
    once: Annotated[
        str | None, typer.Option(help="Ask this one question and end.", callback=typed)
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system message.", callback=typed)] = None,
    max_tokens: Annotated[int, integer("The longest answer.", Ge(1))] = 512,
    temperature: Annotated[float, decimal("0 is greedy.", Ge(0), Le(2))] = 0.7,
    web: Annotated[bool, typer.Option("--web", help="In a browser, until Ctrl-C.")] = False,
    port: Annotated[int, integer("Of the page; 0 takes any free port.", Ge(0), Le(65535))] = 7860,
    host: Annotated[
        str, typer.Option(help="Of the page. Whoever reaches it may ask the model.")
    ] = "127.0.0.1",
) -> None:
    """Talk with a deployed model. An empty line or Ctrl-D ends it.

    A conversation that outgrows the model goes on without its oldest turns. A deployment that wants
    a key gets the one in KAWAN_USAHA_API_KEY.

    Example: `kawan-usaha chat --once "Bagaimana cara menghitung harga pokok?"`
    """
    from tasks.core.model.template_record import template_for
    from tasks.core.serving.client.chat import Talk

    deployment = deployment_of(the_one(name))
    again = "Deploy the model again; without --template its own is taken."
    template_for(deployment.model, deployment.template, next_step=again)
    if web:
        _show_page(deployment, host, port)
        return
    talk = Talk(
        deployment.base_url,
        deployment.settings.model_name,
        say=lambda line: typer.echo(line, err=True),
        system=system,
        max_tokens=max_tokens,
        temperature=temperature,
    )
    if once:
        _answer(talk, once)
    else:
        _converse(talk)


def _converse(talk: "Talk") -> None:
    """Answer one line after the other. What is wrong with one of them does not end the talk."""
    from tasks.core.serving.client.chat import Busy, TooLong

    while question := read_line("> "):
        try:
            _answer(talk, question)
        except (Busy, TooLong) as error:
            typer.echo(f"{error.what} {error.next_step or ''}".strip(), err=True)


def _answer(talk: "Talk", question: str) -> None:
    for piece in talk.ask(question):
        typer.echo(piece, nl=False)
    typer.echo()


def _show_page(deployment: "Deployment", host: str, port: int) -> None:
    """Show the page until it is ended; Ctrl-C ends it with everything that it started."""
    from pydantic import ValidationError

    from flows.commands.output import problems_of
    from tasks.core.errors import ServingFailed, UsageError
    from tasks.core.files.temporary import scratch_directory
    from tasks.core.process.child import run_child
    from tasks.core.process.environment import child_environment
    from tasks.core.serving.client.key_variables import API_KEY_VARIABLE
    from tasks.core.serving.page.settings import PageSettings

    try:
        settings = PageSettings(
            base_url=deployment.base_url,
            model_name=deployment.settings.model_name,
            host=host,
            port=port,
            kept_days=deployment.settings.kept_days,
        )
    except ValidationError as error:
        raise UsageError("These options do not fit.", found=problems_of(error, {})) from error
    with scratch_directory("page") as directory:
        file = directory / "page.json"
        file.write_text(settings.model_dump_json())
        ended = run_child(
            [sys.executable, "-P", "-m", "tasks.core.serving.page", str(file)],
            env=child_environment(os.environ, API_KEY_VARIABLE),
            on_line=_tell,
        )
    if not ended.succeeded:
        raise ServingFailed(
            "The page ended.", where=host, found="\n".join(ended.tail[-6:]) or ended.cause.value
        )


def _tell(line: str) -> None:
    from tasks.core.process.said import said

    address = said(line)
    if address is None:
        typer.echo(line, err=True)
    else:
        typer.echo(f"The page is at {address} - Ctrl-C ends it.")
