"""Whether the activations that an edit names exist, judged without any model.

transformers' registry says so, and importing it takes seconds. The invariant: a name that is taken
here without asking is in the registry, and is a function of its input alone.
"""

from tasks.core.recipe import Edit

SURE = frozenset({"gelu", "gelu_new", "relu", "silu"})
"""Names that every transformers 5 has."""


def check_edit_names(edit: Edit) -> None:
    """Raise RecipeError when the edit names an activation that cannot be used."""
    for name in {entry.activation for entry in edit.activations} - SURE:
        from tasks.core.architecture.edits.registry import require_activation

        require_activation(name)
