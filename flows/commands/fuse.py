"""`kawan-usaha fuse`."""

from pathlib import Path
from typing import Annotated

import typer

from flows.command_line.model_directory import Out, show_written
from flows.command_line.output import AsJson
from flows.command_line.sources import Model


def fuse(
    model: Model,
    adapter: Annotated[Path, typer.Argument(help="The directory of a PEFT adapter.")],
    out: Out,
    as_json: AsJson = False,
) -> None:
    """Add a PEFT LoRA adapter to the weights of a model, streamed.

    Also takes DoRA, PiSSA, OLoRA and adapters of experts. The result equals PEFT's
    `merge_and_unload` up to rounding. The model keeps its own code and edit; a tokenizer, chat
    template or conversation template that was saved with the adapter replaces the model's.

    Example: `kawan-usaha fuse edited adapter tuned`
    """
    from flows.actions.fuse import fuse_to

    show_written(out, fuse_to(model, adapter, out), as_json=as_json)
