"""`kawan-usaha finetune`: one option for each field of `recipe.Finetune` and `recipe.Lora`."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from flows.command_line.field_options import field_options, with_options
from flows.command_line.model_directory import Out
from flows.command_line.output import AsJson
from flows.command_line.sources import Model, Template
from tasks.core.errors import UsageError
from tasks.core.files.given import at_rest
from tasks.core.recipe import Finetune, Lora
from tasks.core.recipe.file import given_path

LORA = "lora_"
"""The prefix of the options of `recipe.Lora`."""


@with_options(
    *field_options(Finetune, panel="Training", but=("data", "lora")),
    *field_options(Lora, panel="LoRA", prefix=LORA),
)
def finetune(
    model: Model,
    data: Annotated[
        Path,
        typer.Argument(help="Conversations or, for dpo, preferences: docs/data.md."),
    ],
    out: Out,
    *,
    template: Template = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only show command, DeepSpeed configuration and plan."),
    ] = False,
    as_json: AsJson = False,
    **fields: Any,
) -> None:
    """Train a LoRA adapter; resumes after a crash, retries with less memory after running out.

    OUT gets `adapter/` (in PEFT's format, with a record of the conversation template; `kawan-usaha
    fuse` adds it to the model), `training.json` and `loss.png`. After a kill, the same command
    resumes from the last complete checkpoint. When GPU or host memory runs out, training retries
    with less: smaller micro batches with the same global batch, gradient checkpointing, offload,
    ZeRO-3, 4 bits. The defaults are those of the original command.

    With `--method dpo` DATA has one preference per line: `{"id": …, "conversations": [… up to the
    question], "chosen": "…", "rejected": "…"}`, or the format of TRL's data sets. The adapter
    learns to prefer the chosen answers, compared with the model without it.

    Example: `kawan-usaha finetune edited data/conversation.json tuned --zero-stage 3 --dry-run`
    """
    with ExitStack() as streams:
        kept = streams.enter_context(at_rest(given_path(data)))
        settings = finetune_settings(kept, fields)
        if settings.hostfile is not None:
            hosts = streams.enter_context(at_rest(settings.hostfile))
            settings = settings.model_copy(update={"hostfile": hosts})
        from flows.actions.finetune import finetune_to, show_plan

        act = show_plan if dry_run else finetune_to
        act(model, kept, out, settings, template, as_json=as_json)


def finetune_settings(data: Path, fields: dict[str, Any]) -> Finetune:
    """Return the settings that the given options ask for. Raises UsageError for a wrong value."""
    named = {name: value for name, value in fields.items() if value not in (None, [])}
    given = {name: None if value == "" else value for name, value in named.items()}
    lora = {name: given.pop(LORA + name) for name in Lora.model_fields if LORA + name in given}
    if lora.get("target_modules") == ["all-linear"]:
        lora["target_modules"] = "all-linear"
    try:
        return Finetune.model_validate({"data": data, "lora": lora, **given})
    except ValidationError as error:
        found = [
            f"--{'-'.join(map(str, problem['loc'][:2])).replace('_', '-')}: {problem['msg']}"
            if problem["loc"]  # a conflict between options has none
            else problem["msg"].removeprefix("Value error, ")
            for problem in error.errors()
        ]
        raise UsageError(
            "An option has an invalid value.",
            found="; ".join(dict.fromkeys(found)),
            next_step="See `kawan-usaha finetune --help`.",
        ) from error
