"""What a recipe's edit names: activations that exist, and layers by their numbers.

Imports neither torch nor transformers, so that a recipe is checked in milliseconds. The invariants:
an activation that is accepted here unasked is in transformers' registry and a function of its input
alone; a plan has every layer at most once, and only layers that the model has.
"""

from collections.abc import Sequence

from tasks.core.errors import RecipeError
from tasks.core.recipe import ActivationEdit, Edit, LayerSelector

COMMON_ACTIVATIONS = frozenset({"gelu", "gelu_new", "relu", "silu"})
"""Names that every transformers 5 has; for any other its registry is asked, which takes seconds."""


def check_activation_names(edit: Edit) -> None:
    """Raise RecipeError when the edit names an activation that cannot be used on any model."""
    for name in {entry.activation for entry in edit.activations} - COMMON_ACTIVATIONS:
        from tasks.core.architecture.edits.activations import require_activation

        require_activation(name)


def plan_activations(entries: Sequence[ActivationEdit], num_layers: int) -> dict[int, str]:
    """Return the new activation of each layer that an entry names, by layer number.

    Raises RecipeError when a selector names no layer of a model of num_layers layers, and when a
    layer is named twice, whether with the same activation (a duplicate) or another (a
    contradiction).
    """
    plan: dict[int, str] = {}
    for number, entry in enumerate(entries):
        where = f"edit.activations[{number}]"
        for selector in entry.layers:
            for layer in selected_layers(selector, num_layers, where=where):
                if layer in plan:
                    raise _named_twice(layer, plan[layer], entry.activation, where)
                plan[layer] = entry.activation
    return plan


def selected_layers(selector: LayerSelector, num_layers: int, *, where: str) -> range:
    """Return the layers that one selector names: an index, a slice "a:b" or "all".

    Unlike in Python's slices, a bound outside the model is an error rather than cut off.
    """
    if selector == "all":
        return range(num_layers)
    if isinstance(selector, str):
        start, stop = (int(bound) if bound else None for bound in selector.split(":"))
        bounds = [bound for bound in (start, stop) if bound is not None]
        found = range(*slice(start, stop).indices(num_layers))
        if not found or any(not -num_layers <= bound <= num_layers for bound in bounds):
            raise _no_such_layers(selector, num_layers, where)
        return found
    if not -num_layers <= selector < num_layers:
        raise _no_such_layers(selector, num_layers, where)
    layer = selector % num_layers
    return range(layer, layer + 1)


def _no_such_layers(selector: LayerSelector, num_layers: int, where: str) -> RecipeError:
    return RecipeError(
        "The edit names layers that this model does not have.",
        where=f"{where}.layers",
        expected=f"0 to {num_layers - 1}, or -{num_layers} to -1 counted from the end",
        found=selector,
        next_step=f"The model has {num_layers} layers: name some of those.",
    )


def _named_twice(layer: int, first: str, second: str, where: str) -> RecipeError:
    return RecipeError(
        "The edit names a layer twice."
        if first == second
        else "The edit contradicts itself: it names two activations for one layer.",
        where=f"{where}.layers",
        expected="every layer at most once",
        found=f"layer {layer}: {first}, then {second}",
        next_step="Remove the layer from one of the two entries.",
    )
