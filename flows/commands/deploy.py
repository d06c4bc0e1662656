"""`kawan-usaha deploy`."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from flows.command_line.numbers import number_of
from flows.command_line.output import AsJson, option_errors, show
from flows.command_line.sources import Model, SignedBy, Template
from flows.command_line.which_deployment import Wait
from tasks.core.errors import UsageError
from tasks.core.recipe.deploy import Deploy, Gateway
from tasks.core.serving.state.record import Deployment


def deploy(
    model: Model,
    *,
    name: Annotated[str, typer.Option(help="The name of the deployment.")] = "kawan-usaha",
    model_name: Annotated[
        str, typer.Option(help="The model name that clients ask for.")
    ] = "Kawan-Usaha",
    template: Template = None,
    engine: Annotated[str, typer.Option(help="fastchat, transformers or vllm.")] = "fastchat",
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    load_8bit: Annotated[bool, typer.Option(help="Load the weights in 8 bits.")] = True,
    gpus: Annotated[int, number_of(Deploy, "gpus", "How many GPUs the model is split over.")] = 1,
    host: Annotated[
        str, typer.Option(help="The address for clients; beyond loopback only with keys.")
    ] = "127.0.0.1",
    port: Annotated[int, number_of(Gateway, "port", "The port for clients.")] = 8000,
    keys_file: Annotated[Path | None, typer.Option(help="The file with the API keys.")] = None,
    switch: Annotated[
        str,
        typer.Option(help="side-by-side or replace: how it takes over from an earlier model."),
    ] = "side-by-side",
    drain_s: Annotated[
        int, number_of(Deploy, "drain_s", "Seconds for the earlier model to finish its answers.")
    ] = 300,
    startup_timeout_s: Annotated[
        int, number_of(Deploy, "startup_timeout_s", "Seconds until the model must answer.")
    ] = 900,
    signed_by: SignedBy = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Serve a model behind an OpenAI-compatible address: supervised, watched, proven first.

    An edited model must prove its edit inside the serving process before it gets any traffic. An
    earlier deployment of this name serves until the new one is proven, and keeps serving if that
    fails.

    Example: `kawan-usaha deploy edited --device cpu --template vicuna_v1.1`
    """
    settings = _settings(
        model_name=model_name,
        engine=engine,
        device=device,
        load_8bit=load_8bit,
        gpus=gpus,
        switch=switch,
        drain_s=drain_s,
        startup_timeout_s=startup_timeout_s,
        signed_by=None if signed_by is None else signed_by.absolute(),
        gateway={"host": host, "port": port, "keys_file": keys_file},
    )
    from flows.actions.deploy import deploy_local, wait_for_end

    deployment = deploy_local(model, settings, name=name, template=template)
    word = "answers already" if deployment.reused else "answers"
    text = f"{model_name} {word} at {deployment.base_url}\nTry: kawan-usaha chat {name}"
    show(deployment, as_json=as_json, text="\n".join([text, *_replayed(deployment)]))
    if wait:
        wait_for_end(name)


def _settings(**given: object) -> Deploy:
    try:
        return Deploy.model_validate(given)
    except ValidationError as error:
        raise UsageError(
            "These options do not fit together.",
            found=option_errors(error, {"gateway.port": "port", "gateway.host": "host"}),
            next_step="See `kawan-usaha deploy --help`.",
        ) from error


def _replayed(deployment: Deployment) -> list[str]:
    """Return how the answers of both models compare, and their answers to the prompts."""
    switched = deployment.switched
    if switched is None or not switched.shadow:
        return []
    rows = []
    for each in switched.shown:
        earlier = [] if each.earlier is None else [f"  earlier  {each.earlier}"]
        rows += [f"  asked    {each.asked}", *earlier, f"  new      {each.new}"]
    return [switched.compared, *rows]
