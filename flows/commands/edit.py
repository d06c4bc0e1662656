"""`kawan-usaha edit`."""

from typing import Annotated

import typer
from pydantic import ValidationError

from flows.command_line.model_directory import Out, left_behind_note
from flows.command_line.numbers import number_of
from flows.command_line.output import AsJson, show
from flows.command_line.sources import Model
from tasks.core.errors import UsageError
from tasks.core.recipe import Edit, RopeScalingEdit


def edit(
    model: Model,
    out: Out,
    *,
    activation: Annotated[
        str | None, typer.Option(help="The new activation, such as gelu.")
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            help='The layers to edit: an index, a slice such as "0:4" or "-4:", or "all"; '
            "repeatable. The last layer by default."
        ),
    ] = None,
    rope_scaling: Annotated[
        str | None,
        typer.Option(help="Lengthen the context by this method: linear, dynamic or yarn."),
    ] = None,
    factor: Annotated[
        float, number_of(RopeScalingEdit, "factor", "How many times longer the context becomes.")
    ] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Change the architecture so that the change travels with the model, and prove it.

    Weight files are hard-linked to those of the source where that is safe, not copied.

    Example: `kawan-usaha edit merged edited --activation gelu --layers -1`
    """
    from flows.actions.edit import edit_to

    made = edit_to(model, out, _settings(activation, layers, rope_scaling, factor))
    sizes = f"{made.written_bytes / 1e3:,.1f} kB written, {made.shared_bytes / 1e9:.3f} GB shared"
    result = {
        "out": out,
        "written_bytes": made.written_bytes,
        "proof": made.proof.as_json(),
        "left_behind": made.left_behind,
    }
    note = left_behind_note(made.left_behind)
    show(result, as_json=as_json, text=f"{made.proof.table()}\n\n{out}: {sizes}{note}")


def _settings(
    activation: str | None, layers: list[str] | None, rope_scaling: str | None, factor: float
) -> Edit:
    """Return the edit that the options ask for. Raises UsageError if they ask for none."""
    activations: list[dict[str, object]] = []
    if activation or layers:
        activations = [{"layers": [_layer(text) for text in layers or ["-1"]]}]
    if activation:
        activations[0]["activation"] = activation
    rope = {"rope_type": rope_scaling, "factor": factor} if rope_scaling else None
    try:
        return Edit.model_validate({"activations": activations, "rope_scaling": rope})
    except ValidationError as error:
        found = "; ".join(problem["msg"] for problem in error.errors())
        raise UsageError(
            "This is not a valid edit.", found=found, next_step="See `kawan-usaha edit --help`."
        ) from error


def _layer(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text
