"""The commands around a running model: deploy, status, stop, chat, and the embedded Hub."""

import itertools
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from annotated_types import Ge, Le

from flows.commands.numbers import decimal, integer, number_of
from flows.commands.output import AS_JSON, problems_of, show
from flows.commands.sources import MODEL_HELP, TEMPLATE, local_model
from flows.commands.words import read_line, typed
from tasks.core.recipe import Deploy

if TYPE_CHECKING:
    from tasks.core.serving.state import Deployment

Json = Annotated[bool, AS_JSON]
Name = Annotated[str | None, typer.Argument(help="The deployment; needed when there are several.")]


def register(app: typer.Typer) -> None:
    """Add the commands to app."""
    for command in (deploy, restore, status, stop, chat, hub):
        app.command()(command)


def deploy(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    *,
    name: Annotated[str, typer.Option(help="Names the deployment.")] = "kawan-usaha",
    model_name: Annotated[str, typer.Option(help="What clients ask for.")] = "Kawan-Usaha",
    template: Annotated[str | None, TEMPLATE] = None,
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    load_8bit: Annotated[bool, typer.Option(help="Weights in 8 bits.")] = True,
    gpus: Annotated[int, number_of(Deploy, "gpus", "How many the model is spread over.")] = 1,
    port: Annotated[int, number_of(Deploy, "api_port", "Of the OpenAI-compatible server.")] = 8000,
    controller_port: Annotated[
        int, number_of(Deploy, "controller_port", "FastChat's controller.")
    ] = 21001,
    worker_port: Annotated[int, number_of(Deploy, "worker_port", "FastChat's worker.")] = 21002,
    startup_timeout_s: Annotated[
        int, number_of(Deploy, "startup_timeout_s", "Seconds until the model must answer.")
    ] = 900,
    as_json: Json = False,
) -> None:
    """Serve a model with FastChat: supervised, on loopback, proven by generating a token.

    An edited model must show its edit inside the worker before it gets any traffic.

    Example: `kawan-usaha deploy edited --device cpu --template vicuna_v1.1`
    """
    from pydantic import ValidationError

    from tasks.core.architecture.promise import expected_report
    from tasks.core.errors import UsageError
    from tasks.core.home import home
    from tasks.core.serving.deployment import deploy as start
    from tasks.core.store.manifest import read_manifest
    from tasks.core.template_record import template_for

    try:
        settings = Deploy.model_validate(
            {
                "model_name": model_name,
                "device": device,
                "load_8bit": load_8bit,
                "gpus": gpus,
                "api_port": port,
                "controller_port": controller_port,
                "worker_port": worker_port,
                "startup_timeout_s": startup_timeout_s,
            }
        )
    except ValidationError as error:
        raise UsageError(
            "These options do not fit.",
            found=problems_of(error, {"api_port": "port"}),
            next_step="See `kawan-usaha deploy --help`.",
        ) from error
    with local_model(model) as path:
        manifest = read_manifest(path)
        deployment = start(
            path,
            settings,
            name=name,
            template=template_for(path, template),
            home=home(),
            build=str(manifest.stage_key) if manifest else str(path.resolve()),
            expected_edit=expected_report(path),
            say=partial(typer.echo, err=True),
        )
    word = "answers already" if deployment.reused else "answers"
    text = f"{model_name} {word} at {deployment.base_url}\nTry: kawan-usaha chat {name}"
    show(deployment, as_json=as_json, text=text)


def restore(name: Name = None, as_json: Json = False) -> None:
    """Start an earlier deployment again whose replacement failed or was cut off.

    `deploy` and `rebuild` do so themselves when the new model does not get to serve; after Ctrl-C
    or a kill in between, `status` says that this is due.
    """
    from tasks.core.home import home
    from tasks.core.serving.deployment import restore as start_again

    deployment = start_again(home(), _the_one(name), say=partial(typer.echo, err=True))
    text = f"{deployment.settings.model_name} answers at {deployment.base_url}"
    show(deployment, as_json=as_json, text=text)


def status(as_json: Json = False) -> None:
    """Show what is running and what is deployed, and whether each deployment generates right now.

    A rebuild or a command is running while it holds a lock; each artifact and device that it holds
    is listed, with the time since when. Of a server that `kawan-usaha prefect up` has started it
    shows the unfinished runs and the schedules that are on. Exit code 1 when a deployment is not
    healthy.
    """
    from dataclasses import asdict

    from flows.commands.prefect_server import here
    from flows.overview import overview
    from tasks.core.activity import running
    from tasks.core.home import home
    from tasks.core.serving.status import DeploymentStatus
    from tasks.core.serving.status import status as look

    def text_of(each: DeploymentStatus) -> str:
        url = each.deployment.base_url if each.deployment else "-"
        lines = [f"{each.name}: {each.health}  {url}"]
        if each.report is not None and each.report.edit is not None:
            lines.append(f"  activations in the worker: {_runs(each.report.edit['activations'])}")
        for process in each.processes:
            memory = f"{process.memory_bytes / 1e9:.2f} GB" if process.memory_bytes else "-"
            where = f"port {process.port}" if process.port else ""
            lines.append(f"  {process.name:<12} {process.state:<9} {memory:>9} {where}")
        return "\n".join([*lines, *([f"  {each.problem}"] if each.problem else [])])

    at_work, found = running(home()), look(home())
    prefect = overview(address) if (address := here().address()) else None
    parts = [*map(str, at_work), *map(text_of, found)]
    parts += [] if found else ["Nothing is deployed."]
    parts += [str(prefect)] if prefect else []
    result = {
        "running": at_work,
        "deployments": [asdict(each) for each in found],
        "prefect": prefect,
    }
    show(result, as_json=as_json, text="\n\n".join(parts))
    if any(each.health != "healthy" for each in found):
        raise typer.Exit(1)


def stop(name: Name = None, as_json: Json = False) -> None:
    """End a deployment and everything that belongs to it."""
    from tasks.core.home import home
    from tasks.core.serving.deployment import stop as end

    stopped = end(home(), _the_one(name))
    text = f"{stopped.name}: ended {', '.join(stopped.ended) or 'nothing, it was down'}"
    show({"name": stopped.name, "ended": list(stopped.ended)}, as_json=as_json, text=text)


def chat(
    name: Name = None,
    once: Annotated[
        str | None, typer.Option(help="Ask this one question and end.", callback=typed)
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system message.", callback=typed)] = None,
    max_tokens: Annotated[int, integer("The longest answer.", Ge(1))] = 512,
    temperature: Annotated[float, decimal("0 is greedy.", Ge(0), Le(2))] = 0.7,
) -> None:
    """Talk with a deployed model. An empty line or Ctrl-D ends it.

    Example: `kawan-usaha chat --once "Bagaimana cara menghitung harga pokok?"`
    """
    from tasks.core.serving.chat import Message
    from tasks.core.serving.chat import chat as ask
    from tasks.core.template_record import template_for

    deployment = _deployment(_the_one(name))
    again = "Deploy the model again; without --template its own is taken."
    template_for(deployment.model, deployment.template, next_step=again)
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    while question := (once or read_line("> ")):
        messages.append({"role": "user", "content": question})
        answer = ""
        for piece in ask(
            deployment.base_url,
            deployment.settings.model_name,
            messages,
            stream=True,
            max_tokens=max_tokens,
            temperature=temperature,
        ):
            answer += piece
            typer.echo(piece, nl=False)
        typer.echo()
        messages.append({"role": "assistant", "content": answer})
        if once:
            return


def hub(
    port: Annotated[int, integer("0 takes any free port.", Ge(0), Le(65535))] = 8090,
    root: Annotated[Path | None, typer.Option(help="Where it keeps everything.")] = None,
) -> None:
    """Run a small Hub on this machine until Ctrl-C, to look at what the demo published.

    Point huggingface_hub at it with `export HF_ENDPOINT=http://127.0.0.1:8090`.
    """
    from tasks.core.home import home
    from tasks.core.hub.embedded.server import serve
    from tasks.core.process.ports import free_port

    port = port or free_port()
    typer.echo(f"export HF_ENDPOINT=http://127.0.0.1:{port} HF_HUB_DISABLE_XET=1", err=True)
    serve(root or home() / "hub", host="127.0.0.1", port=port, ready_file=None)


def _runs(names: object) -> str:
    """Return equal neighbours in one word: layers 0-38 silu, layer 39 gelu."""
    if not isinstance(names, list):
        return str(names)
    words, first = [], 0
    for name, group in itertools.groupby(names):
        last = first + len(list(group)) - 1
        words.append(f"layer {first} {name}" if first == last else f"layers {first}-{last} {name}")
        first = last + 1
    return ", ".join(words)


def _the_one(name: str | None) -> str:
    from tasks.core.errors import UsageError
    from tasks.core.home import home
    from tasks.core.serving.state import state_directories

    names = [state.name for state in state_directories(home())]
    if name is None and len(names) == 1:
        return names[0]
    if name is None:
        raise UsageError(
            "Name the deployment." if names else "Nothing is deployed.",
            expected=", ".join(names) or None,
            next_step="`kawan-usaha status` shows what runs; `kawan-usaha rebuild demo` deploys.",
        )
    return name


def _deployment(name: str) -> "Deployment":
    from tasks.core.errors import UsageError
    from tasks.core.home import home
    from tasks.core.serving.state import read_deployment, state_directory

    deployment = read_deployment(state_directory(home(), name))
    if deployment is None:
        raise UsageError(
            "There is no such deployment.",
            where=name,
            next_step="`kawan-usaha status` shows what runs; `kawan-usaha rebuild demo` deploys.",
        )
    return deployment
