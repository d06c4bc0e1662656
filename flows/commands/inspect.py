"""`kawan-usaha inspect`."""

from typing import TYPE_CHECKING

import typer

from flows.command_line.output import AsJson, show
from flows.command_line.sources import Model

if TYPE_CHECKING:
    from tasks.core.architecture.inspection import ModelInspection


def inspect(model: Model, as_json: AsJson = False) -> None:
    """Show each layer's activation, shapes, type and parameters, and whether an edit is alive.

    Exit code 1 if the directory has problems, or its edit is lost.

    Example: `kawan-usaha inspect edited`
    """
    from flows.actions.inspect import inspect_local

    found = inspect_local(model)
    show(found, as_json=as_json, text="\n".join(_lines(found)))
    if found.problems or found.edit == "lost":
        raise typer.Exit(1)


def _lines(found: "ModelInspection") -> list[str]:
    kind = f"{found.model_type}, {found.model_class}"
    sizes = f"{found.parameters / 1e6:,.1f}M parameters, {found.weight_bytes / 1e9:.3f} GB"
    return [
        f"{kind}: {sizes}, {', '.join(found.dtypes)}, context {found.context_tokens} tokens",
        f"edit: {found.edit} ({found.reason})",
        f"RoPE: {found.rope}",
        *(
            f"layer {layer.layer:>3}  {layer.computes:<10} {layer.module:<16} "
            f"{'x'.join(map(str, layer.mlp_shape)):<12} {', '.join(layer.dtypes)} "
            f"{layer.parameters / 1e6:>9,.2f}M"
            for layer in found.layers
        ),
        *(f"problem: {problem}" for problem in found.problems),
    ]
