"""`kawan-usaha finetune`: a LoRA adapter for one model, without store, Prefect or recipe file.

The options are made from the fields of `recipe.Finetune` and `recipe.Lora`, so that a field that is
added there can be given here, with the same default, meaning and limits.
"""

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from flows.commands.numbers import Range
from flows.commands.output import AS_JSON, NEW_DIRECTORY, command_log, followed, show
from flows.commands.sources import MODEL_HELP, TEMPLATE, in_use, local_model
from tasks.core.errors import UsageError
from tasks.core.files.given import at_rest
from tasks.core.recipe import Finetune, Lora
from tasks.core.recipe.file import given_path

_LORA = "lora_"
_PORT = 29500  # shown by --dry-run; a real run takes one that is free


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command(name="finetune")(_with_fields(finetune))


def finetune(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    data: Annotated[
        Path,
        typer.Argument(help="Conversations or, for dpo, preferences: docs/data.md."),
    ],
    out: Annotated[Path, NEW_DIRECTORY],
    *,
    template: Annotated[str | None, TEMPLATE] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show command, DeepSpeed configuration and plan; no more."),
    ] = False,
    as_json: Annotated[bool, AS_JSON] = False,
    **fields: Any,
) -> None:
    """Train a LoRA adapter; resumes after a crash, retries with less memory after running out.

    OUT gets `adapter/` (PEFT's format, with a record of the conversation template; `kawan-usaha
    fuse` adds it to the model), `training.json` and `loss.png`. The same command after a kill
    resumes from the last whole checkpoint. When GPU or host memory runs out, training continues
    with less: smaller micro batches with the same global batch, gradient checkpointing, offload,
    ZeRO-3, 4 bits. The defaults are those of the original command.

    With `--method dpo` DATA has a preference a line: `{"id": …, "conversations": [… up to the
    question], "chosen": "…", "rejected": "…"}`, or as TRL's data sets have it. The adapter learns
    to prefer the chosen answers over the rejected ones, compared with the model without it.

    Example: `kawan-usaha finetune edited data/conversation.json tuned --zero-stage 3 --dry-run`
    """
    with ExitStack() as streams:
        kept = streams.enter_context(at_rest(given_path(data)))
        settings = _settings(kept, fields)
        if settings.hostfile is not None:
            hosts = streams.enter_context(at_rest(settings.hostfile))
            settings = settings.model_copy(update={"hostfile": hosts})
        _finetune(model, kept, out, settings, template, dry_run=dry_run, as_json=as_json)


def _finetune(
    model: str,
    data: Path,
    out: Path,
    settings: Finetune,
    template: str | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    from tasks.core.model.template_record import template_for
    from tasks.core.training.checks import check_training

    if dry_run:
        with local_model(model) as source:
            template = template or template_for(source, None)
            _, warnings = check_training(source, settings, data=data, template=template)
            _show_plan(source, settings, out, warnings, as_json=as_json)
        return
    from tasks.core.files.output import staged_directory
    from tasks.core.home import home
    from tasks.core.training.ladder import train_down_the_ladder
    from tasks.core.training.planned import said_before_training
    from tasks.core.training.request import TrainingRequest

    # What may change between two attempts of one training is decided by its checkpoints.
    work = {"command": "finetune"}
    with local_model(model) as source, in_use(data):
        template = template or template_for(source, None)
        # Once more where it trains; here, so that a refusal leaves no OUT.partial.
        check_training(source, settings, data=data, template=template)
        with (
            staged_directory(out, work) as staging,
            followed("finetune", "steps") as (report, say),
        ):
            for line in said_before_training(source, settings, home()):
                say(line)
            request = TrainingRequest(
                model=source,
                settings=settings,
                data=data,
                template=template,
                out=staging,
                on_progress=report,
                on_line=say,
                log=command_log("finetune"),
            )
            made = train_down_the_ladder(request, home())
    text = (
        f"{out / 'adapter'}: {made.trained.facts.parameters / 1e6:.2f}M parameters, "
        f"{made.trained.total_steps} steps, {made.trained.losses}, "
        f"rung {made.number} of {made.rungs} ({made.rung.name})"
    )
    result: dict[str, object] = {
        "out": out,
        "steps": [step.model_dump() for step in made.trained.steps],
        "validation": [each.model_dump() for each in made.trained.validation],
        "validation_loss": made.trained.validation_loss,
        "trained_tokens": made.trained.trained_tokens,
        "resumed_from_step": made.trained.resumed_from_step,
        "rung": made.rung.name,
        "steps_down": [step.model_dump(mode="json") for step in made.steps_down],
    }
    show(result, as_json=as_json, text=text)


def _show_plan(
    model: Path, settings: Finetune, out: Path, warnings: tuple[str, ...], *, as_json: bool
) -> None:
    import os
    from dataclasses import replace

    from pydantic import TypeAdapter

    from tasks.core.home import home
    from tasks.core.planning.text import ladder_text
    from tasks.core.planning.training_fit import TrainingFit
    from tasks.core.training.deepspeed_config import deepspeed_config
    from tasks.core.training.launch.command import launch_command
    from tasks.core.training.planned import planned_training

    config = deepspeed_config(settings)
    job = out.absolute().with_name(out.name + ".partial") / "work" / "job.json"
    start = launch_command(settings, job, port=_PORT, env=os.environ)
    fit = planned_training(model, settings, home())
    fit = replace(fit, warnings=(*warnings, *fit.warnings))
    parts = (start.shell, json.dumps(config, indent=1), ladder_text(fit))
    plan = TypeAdapter(TrainingFit).dump_python(fit, mode="json")
    result: dict[str, object] = {
        "command": list(start.argv),
        "environment": dict(start.environment),
        "deepspeed": config,
        "plan": plan,
    }
    show(result, as_json=as_json, text="\n\n".join(parts))


def _settings(data: Path, fields: dict[str, Any]) -> Finetune:
    """Return the settings that the given options ask for. Raises UsageError for a wrong value."""
    named = {name: value for name, value in fields.items() if value not in (None, [])}
    given = {name: None if value == "" else value for name, value in named.items()}
    lora = {name: given.pop(_LORA + name) for name in Lora.model_fields if _LORA + name in given}
    if lora.get("target_modules") == ["all-linear"]:
        lora["target_modules"] = "all-linear"
    try:
        return Finetune.model_validate({"data": data, "lora": lora, **given})
    except ValidationError as error:
        found = [
            f"--{'-'.join(map(str, problem['loc'][:2])).replace('_', '-')}: {problem['msg']}"
            if problem["loc"]  # of what options have to do with each other there is none
            else problem["msg"].removeprefix("Value error, ")
            for problem in error.errors()
        ]
        raise UsageError(
            "An option has a value that it cannot take.",
            found="; ".join(dict.fromkeys(found)),
            next_step="See `kawan-usaha finetune --help`.",
        ) from error


def _with_fields(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function with an option for each field of the recipe in place of **fields."""
    signature = inspect.signature(function)
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    options = [_option(name, info, "") for name, info in _plain_fields()]
    options += [_option(name, info, _LORA) for name, info in Lora.model_fields.items()]

    def command(**given: Any) -> None:
        function(**given)

    command.__doc__ = function.__doc__
    parameters = [each.replace(kind=each.KEYWORD_ONLY) for each in [*own, *options]]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


def _plain_fields() -> Iterator[tuple[str, FieldInfo]]:
    return (
        (name, info) for name, info in Finetune.model_fields.items() if name not in ("data", "lora")
    )


def _option(name: str, info: FieldInfo, prefix: str) -> inspect.Parameter:
    """Return the option of one field: none given means the recipe's default, which help shows."""
    kind, choices = _kind(info.annotation)
    text = str(info.description or info.title)
    default = info.get_default(call_default_factory=True)
    if isinstance(default, tuple):
        default = " ".join(str(part) for part in default)
    shown = False if default in (None, "") else str(default)
    help_panel = "LoRA" if prefix else "Training"
    more: dict[str, Any] = {"show_default": shown, "rich_help_panel": help_panel}
    if kind in (int, float):
        option = Range.of(info).option(text, **more)
    else:
        text += f" One of: {choices}." if choices else ""
        option = typer.Option(help=text, **more)
    return inspect.Parameter(
        prefix + name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _kind(annotation: Any) -> tuple[Any, str]:
    """Return the type that the command line reads, and the closed choices, if there are any."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return type(parts[0]), ", ".join(map(str, parts))
    if origin is tuple:
        return list[str], _kind(parts[0])[1]
    if parts:  # a union: with None, or of a list with a word that stands for one
        kinds = [_kind(part) for part in parts if part is not type(None)]
        return next((kind for kind in kinds if kind[0] == list[str]), kinds[0])
    return annotation, ""
