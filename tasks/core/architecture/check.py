"""Whether an edit is possible, judged before anything is built.

`check_edit_names` needs no model at all; `check_edit` needs the model's configuration alone.
"""

from transformers import LlamaConfig

from tasks.core.architecture.edits import edits_of
from tasks.core.architecture.registry import require_activation
from tasks.core.recipe import Edit


def check_edit_names(edit: Edit) -> None:
    """Raise RecipeError when the edit names an activation that cannot be used."""
    for entry in edit.activations:
        require_activation(entry.activation)


def check_edit(edit: Edit, config: LlamaConfig) -> None:
    """Raise RecipeError when the edit does not fit a model of this configuration.

    That is: an unknown activation, a layer that is not there, a layer that is named twice, an
    edit that would change nothing, a RoPE scaling on top of another one.
    """
    check_edit_names(edit)
    edits_of(edit, config)
