"""The commands around a running model: deploy, status, stop, and the embedded Hub."""

import itertools
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from annotated_types import Ge, Le

from flows.commands.deployments import Name, the_one
from flows.commands.numbers import integer, number_of
from flows.commands.output import AS_JSON, problems_of, show
from flows.commands.sources import MODEL_HELP, SIGNED_BY, TEMPLATE, local_model, require_signed
from tasks.core.recipe.deploy import Deploy, Gateway

if TYPE_CHECKING:
    from flows.overview import Overview
    from tasks.core.serving.state.record import Deployment

Json = Annotated[bool, AS_JSON]
Wait = Annotated[
    bool,
    typer.Option(
        help="Stay until it ends, and end it on Ctrl-C or SIGTERM, as systemd and Docker want it."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to app."""
    for command in (deploy, start, rollback, status, logs, stop, hub):
        app.command()(command)


def deploy(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    *,
    name: Annotated[str, typer.Option(help="Names the deployment.")] = "kawan-usaha",
    model_name: Annotated[str, typer.Option(help="What clients ask for.")] = "Kawan-Usaha",
    template: Annotated[str | None, TEMPLATE] = None,
    engine: Annotated[str, typer.Option(help="fastchat, transformers or vllm.")] = "fastchat",
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    load_8bit: Annotated[bool, typer.Option(help="Weights in 8 bits.")] = True,
    gpus: Annotated[int, number_of(Deploy, "gpus", "How many the model is spread over.")] = 1,
    host: Annotated[
        str, typer.Option(help="Where clients reach it; beyond loopback only with keys.")
    ] = "127.0.0.1",
    port: Annotated[int, number_of(Gateway, "port", "Where clients reach it.")] = 8000,
    keys_file: Annotated[Path | None, typer.Option(help="The file with the API keys.")] = None,
    switch: Annotated[
        str, typer.Option(help="side-by-side or replace: how an earlier model is taken over from.")
    ] = "side-by-side",
    drain_s: Annotated[
        int, number_of(Deploy, "drain_s", "Seconds for the earlier model's last answers.")
    ] = 300,
    startup_timeout_s: Annotated[
        int, number_of(Deploy, "startup_timeout_s", "Seconds until the model must answer.")
    ] = 900,
    signed_by: Annotated[Path | None, SIGNED_BY] = None,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Serve a model behind an OpenAI-compatible address: supervised, watched, proven first.

    An edited model must show its edit inside the serving process before it gets any traffic. An
    earlier deployment of this name serves until the new one is proven, and goes on if it fails.

    Example: `kawan-usaha deploy edited --device cpu --template vicuna_v1.1`
    """
    from pydantic import ValidationError

    from tasks.core.architecture.promise import expected_report
    from tasks.core.errors import UsageError
    from tasks.core.evaluation.prompts import for_comparison
    from tasks.core.home import home
    from tasks.core.model.template_record import template_for
    from tasks.core.recipe import Evaluate
    from tasks.core.recipe.file import project_path
    from tasks.core.serving.launch.deployment import deploy as serve
    from tasks.core.store.manifest import manifest_of

    try:
        settings = Deploy.model_validate(
            {
                "model_name": model_name,
                "engine": engine,
                "device": device,
                "load_8bit": load_8bit,
                "gpus": gpus,
                "switch": switch,
                "drain_s": drain_s,
                "startup_timeout_s": startup_timeout_s,
                "signed_by": None if signed_by is None else signed_by.absolute(),
                "gateway": {"host": host, "port": port, "keys_file": keys_file},
            }
        )
    except ValidationError as error:
        raise UsageError(
            "These options do not fit.",
            found=problems_of(error, {"gateway.port": "port", "gateway.host": "host"}),
            next_step="See `kawan-usaha deploy --help`.",
        ) from error
    with local_model(model, settings.signed_by) as path:
        manifest = manifest_of(path)
        deployment = serve(
            path,
            settings,
            name=name,
            template=template_for(path, template),
            home=home(),
            build=str(manifest.stage_key) if manifest else str(path.resolve()),
            expected_edit=expected_report(path),
            prompts=for_comparison(project_path(Evaluate().prompts)),
            say=partial(typer.echo, err=True),
        )
    word = "answers already" if deployment.reused else "answers"
    text = f"{model_name} {word} at {deployment.base_url}\nTry: kawan-usaha chat {name}"
    show(deployment, as_json=as_json, text="\n".join([text, *_replayed(deployment)]))
    if wait:
        _stay(name)


def start(name: Name = None, wait: Wait = False, as_json: Json = False) -> None:
    """Start a deployment again that should serve and does not: after a reboot, for one.

    What was ended for another model that did not get to serve is started again, too. One that was
    deployed with --signed-by must still be what was signed; all of it is read before it starts.
    """
    from tasks.core.home import home
    from tasks.core.serving.launch.deployment import start as start_again

    name = the_one(name)
    deployment = start_again(home(), name, require=_still_signed, say=partial(typer.echo, err=True))
    text = f"{deployment.settings.model_name} answers at {deployment.base_url}"
    show(deployment, as_json=as_json, text=text)
    if wait:
        _stay(name)


def rollback(name: Name = None, as_json: Json = False) -> None:
    """Serve again what served before.

    The earlier model takes over as every new one does: proven first, and without a gap where both
    fit. It is not needed when a new model fails to start: the earlier one goes on then. One that
    was deployed with --signed-by must still be what was signed, as for `start`.
    """
    from tasks.core.home import home
    from tasks.core.serving.launch.deployment import rollback as go_back

    deployment = go_back(
        home(), the_one(name), require=_still_signed, say=partial(typer.echo, err=True)
    )
    text = f"{deployment.settings.model_name} answers at {deployment.base_url}"
    show(deployment, as_json=as_json, text=f"{text}, from {deployment.build}")


def logs(
    name: Name = None,
    process: Annotated[
        str | None, typer.Option(help="One of them: gateway-0, watch, blue, green, supervisord.")
    ] = None,
    lines: Annotated[int, integer("How many of each, from the end.", Ge(1))] = 40,
) -> None:
    """Show the end of the logs of a deployment, and its incidents.

    Example: `kawan-usaha logs --process blue --lines 200`
    """
    from tasks.core.errors import UsageError
    from tasks.core.home import home
    from tasks.core.serving.state.directory import state_directory

    state = state_directory(home(), the_one(name))
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


def status(as_json: Json = False) -> None:
    """Show what is running and what is deployed, and whether each deployment generates right now.

    A rebuild or a command is running while it holds a lock; each artifact and device that it holds
    is listed, with the time since when. Of a server that `kawan-usaha prefect up` has started it
    shows the unfinished runs and the schedules that are on. Exit code 1 when a deployment is not
    healthy.
    """
    from dataclasses import asdict

    from flows.commands.prefect_server import here
    from tasks.core.home import home
    from tasks.core.machine.activity import running_work
    from tasks.core.serving.observe.status import DeploymentStatus
    from tasks.core.serving.observe.status import status as look

    def text_of(each: DeploymentStatus) -> str:
        url = each.deployment.base_url if each.deployment else "-"
        lines = [f"{each.name}: {each.health}  {url}"]
        if each.report is not None and each.report.edit is not None:
            lines.append(f"  activations in the engine: {_runs(each.report.edit['activations'])}")
        for process in each.processes:
            memory = f"{process.memory_bytes / 1e9:.2f} GB" if process.memory_bytes else "-"
            where = f"port {process.port}" if process.port else ""
            lines.append(f"  {process.name:<12} {process.state:<9} {memory:>9} {where}")
        lines += [
            f"  {worker.name:<12} {worker.problem or 'answers'}  {worker.url}"
            for worker in each.workers
        ]
        return "\n".join([*lines, *([f"  {each.problem}"] if each.problem else [])])

    at_work, found = running_work(home()), look(home())
    prefect = _prefect_at(address) if (address := here().address()) else None
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


def _prefect_at(address: str) -> "Overview":
    from flows.overview import overview  # its HTTP library takes longer than the rest

    return overview(address)


def stop(name: Name = None, as_json: Json = False) -> None:
    """End a deployment and everything that belongs to it."""
    from tasks.core.home import home
    from tasks.core.serving.launch.deployment import stop as end

    stopped = end(home(), the_one(name))
    text = f"{stopped.name}: ended {', '.join(stopped.ended) or 'nothing, it was down'}"
    show({"name": stopped.name, "ended": list(stopped.ended)}, as_json=as_json, text=text)


def hub(
    port: Annotated[int, integer("0 takes any free port.", Ge(0), Le(65535))] = 8090,
    root: Annotated[Path | None, typer.Option(help="Where it keeps everything.")] = None,
) -> None:
    """Run a small Hub on this machine until Ctrl-C, to look at what the demo published.

    Point huggingface_hub at it with `export HF_ENDPOINT=http://127.0.0.1:8090`.
    """
    from tasks.core.demo.hub.server import serve_hub
    from tasks.core.home import home
    from tasks.core.process.ports import free_port

    port = port or free_port()
    typer.echo(f"export HF_ENDPOINT=http://127.0.0.1:{port} HF_HUB_DISABLE_XET=1", err=True)
    serve_hub(root or home() / "hub", host="127.0.0.1", port=port, ready_file=None)


def _still_signed(record: "Deployment") -> None:
    """Raise unless the model of a record is what was signed, where its settings ask for that."""
    signed_by = record.settings.signed_by
    if signed_by is not None:
        typer.echo(f"{record.build} was to be signed; reading all of it before it serves", err=True)
        require_signed(record.model, signed_by)


def _stay(name: str) -> None:
    """Return when the processes of the deployment have ended; end them on SIGTERM and Ctrl-C."""
    from tasks.core.home import home
    from tasks.core.serving.launch.deployment import pause
    from tasks.core.serving.state.directory import state_directory
    from tasks.core.serving.supervision.processes import own_processes

    try:
        while own_processes(state_directory(home(), name).root):
            time.sleep(1.0)
    finally:
        pause(home(), name)
    raise typer.Exit(1)  # nobody asked for it to end


def _replayed(deployment: "Deployment") -> list[str]:
    """Return how the answers compare, and those to the evaluation's prompts side by side."""
    switched = deployment.switched
    if switched is None or not switched.shadow:
        return []
    rows = []
    for each in switched.shown:
        earlier = [] if each.earlier is None else [f"  earlier  {each.earlier}"]
        rows += [f"  asked    {each.asked}", *earlier, f"  new      {each.new}"]
    return [switched.compared, *rows]


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
