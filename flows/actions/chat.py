"""Talk to a deployment in the terminal, or serve the page to talk to it in a browser."""

import os
import sys

import typer
from pydantic import ValidationError

from flows.command_line.output import option_errors
from flows.command_line.text_input import read_line
from tasks.core.errors import ServingFailed, UsageError
from tasks.core.files.temporary import scratch_directory
from tasks.core.model.template_record import template_for
from tasks.core.process.child import run_child
from tasks.core.process.environment import child_environment
from tasks.core.process.said import said
from tasks.core.serving.client.chat import Busy, Talk, TooLong
from tasks.core.serving.page.settings import PageSettings
from tasks.core.serving.state.record import Deployment
from tasks.core.signing.keys import KEY_VARIABLE


def talk_to(
    deployment: Deployment, *, system: str | None, max_tokens: int, temperature: float
) -> Talk:
    """Return a new conversation with the model of a deployment."""
    _require_own_template(deployment)
    return Talk(
        deployment.base_url,
        deployment.settings.model_name,
        say=lambda line: typer.echo(line, err=True),
        system=system,
        max_tokens=max_tokens,
        temperature=temperature,
    )


def converse(talk: Talk) -> None:
    """Answer line after line; one that cannot be answered does not end the conversation."""
    while question := read_line("> "):
        try:
            ask_once(talk, question)
        except (Busy, TooLong) as error:
            typer.echo(f"{error.what} {error.next_step or ''}".strip(), err=True)


def ask_once(talk: Talk, question: str) -> None:
    """Print the answer to a question, streamed."""
    for piece in talk.ask(question):
        typer.echo(piece, nl=False)
    typer.echo()


def serve_page(deployment: Deployment, host: str, port: int) -> None:
    """Serve the page until Ctrl-C, which ends it with everything that it started."""
    _require_own_template(deployment)
    try:
        settings = PageSettings(
            base_url=deployment.base_url,
            model_name=deployment.settings.model_name,
            host=host,
            port=port,
            kept_days=deployment.settings.kept_days,
        )
    except ValidationError as error:
        raise UsageError(
            "These options do not fit together.", found=option_errors(error, {})
        ) from error
    with scratch_directory("page") as directory:
        file = directory / "page.json"
        file.write_text(settings.model_dump_json())
        ended = run_child(
            [sys.executable, "-P", "-m", "tasks.core.serving.page", str(file)],
            env=child_environment(os.environ, KEY_VARIABLE),
            on_line=_show_page_line,
        )
    if not ended.succeeded:
        raise ServingFailed(
            "The page ended.", where=host, found="\n".join(ended.tail[-6:]) or ended.cause.value
        )


def _require_own_template(deployment: Deployment) -> None:
    """Raise TemplateMismatch if the model is served with another template than its own."""
    again = "Deploy the model again without --template, to use its own."
    template_for(deployment.model, deployment.template, next_step=again)


def _show_page_line(line: str) -> None:
    address = said(line)
    if address is None:
        typer.echo(line, err=True)
    else:
        typer.echo(f"The page is at {address} - Ctrl-C ends it.")
