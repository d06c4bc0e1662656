"""`kawan-usaha chat`."""

from typing import Annotated

import typer
from annotated_types import Ge, Le

from flows.command_line.numbers import decimal, integer
from flows.command_line.text_input import require_text
from flows.command_line.which_deployment import (
    DeploymentName,
    chosen_deployment,
    require_deployment,
)


def chat(
    name: DeploymentName = None,
    *,
    once: Annotated[
        str | None, typer.Option(help="Ask this one question and exit.", callback=require_text)
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="A system message.", callback=require_text)
    ] = None,
    max_tokens: Annotated[int, integer("The most tokens of an answer.", Ge(1))] = 512,
    temperature: Annotated[
        float, decimal("The sampling temperature; 0 is greedy.", Ge(0), Le(2))
    ] = 0.7,
    web: Annotated[
        bool, typer.Option("--web", help="Open a page for a browser, until Ctrl-C.")
    ] = False,
    port: Annotated[
        int, integer("The port of the page; 0 takes any free one.", Ge(0), Le(65535))
    ] = 7860,
    host: Annotated[
        str, typer.Option(help="The address of the page. Whoever reaches it can use the model.")
    ] = "127.0.0.1",
) -> None:
    """Talk to a deployed model. An empty line or Ctrl-D ends the conversation.

    A conversation that outgrows the context continues without its oldest turns. A deployment that
    requires an API key gets the one in KAWAN_USAHA_API_KEY.

    Example: `kawan-usaha chat --once "Bagaimana cara menghitung harga pokok?"`
    """
    from flows.actions.chat import ask_once, converse, serve_page, talk_to

    deployment = require_deployment(chosen_deployment(name))
    if web:
        serve_page(deployment, host, port)
        return
    talk = talk_to(deployment, system=system, max_tokens=max_tokens, temperature=temperature)
    if once:
        ask_once(talk, once)
    else:
        converse(talk)
