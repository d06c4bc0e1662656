"""Fine-tune a model into a new directory, without store, Prefect or recipe file."""

import json
import os
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from flows.actions.local_models import in_use, local_model
from flows.command_line.output import command_log, show, showing_progress
from tasks.core.files.output import staged_directory
from tasks.core.home import home
from tasks.core.model.template_record import template_for
from tasks.core.planning.text import ladder_text
from tasks.core.planning.training_fit import TrainingFit
from tasks.core.recipe import Finetune
from tasks.core.training.checks import check_training
from tasks.core.training.deepspeed_config import deepspeed_config
from tasks.core.training.ladder import LadderResult, train_down_the_ladder
from tasks.core.training.launch.command import launch_command
from tasks.core.training.planned import planned_training, training_forecast
from tasks.core.training.request import TrainingRequest

_PORT = 29500  # shown by --dry-run; a real run takes a free one


def finetune_to(
    model: str, data: Path, out: Path, settings: Finetune, template: str | None, *, as_json: bool
) -> None:
    """Train the adapter and print the result."""
    # Whether the checkpoints of an earlier attempt fit is decided by the checkpoints themselves.
    work = {"command": "finetune"}
    with local_model(model) as source, in_use(data):
        template = template or template_for(source, None)
        # The training checks this too; here a refusal leaves no OUT.partial.
        check_training(source, settings, data=data, template=template)
        with (
            staged_directory(out, work) as staging,
            showing_progress("finetune", "steps") as (report, show_line),
        ):
            for line in training_forecast(source, settings, home()):
                show_line(line)
            request = TrainingRequest(
                model=source,
                settings=settings,
                data=data,
                template=template,
                out=staging,
                on_progress=report,
                on_line=show_line,
                log=command_log("finetune"),
            )
            made = train_down_the_ladder(request, home())
    _show_trained(out, made, as_json=as_json)


def show_plan(
    model: str, data: Path, out: Path, settings: Finetune, template: str | None, *, as_json: bool
) -> None:
    """Print the command, DeepSpeed's configuration and the plan, and do nothing else."""
    with local_model(model) as source:
        template = template or template_for(source, None)
        _, warnings = check_training(source, settings, data=data, template=template)
        fit = planned_training(source, settings, home())
    fit = replace(fit, warnings=(*warnings, *fit.warnings))
    config = deepspeed_config(settings)
    job = out.absolute().with_name(out.name + ".partial") / "work" / "job.json"
    start = launch_command(settings, job, port=_PORT, env=os.environ)
    result: dict[str, object] = {
        "command": list(start.argv),
        "environment": dict(start.environment),
        "deepspeed": config,
        "plan": TypeAdapter(TrainingFit).dump_python(fit, mode="json"),
    }
    parts = (start.shell, json.dumps(config, indent=1), ladder_text(fit))
    show(result, as_json=as_json, text="\n\n".join(parts))


def _show_trained(out: Path, made: LadderResult, *, as_json: bool) -> None:
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
