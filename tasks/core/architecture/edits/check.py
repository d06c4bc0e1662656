"""Whether an edit is possible, judged by the model's configuration before anything is built."""

from transformers import LlamaConfig

from tasks.core.architecture.edits.kinds import edits_of
from tasks.core.architecture.edits.names import check_edit_names
from tasks.core.recipe import Edit


def check_edit(edit: Edit, config: LlamaConfig) -> None:
    """Raise RecipeError when the edit does not fit a model of this configuration.

    That is: an unknown activation, a layer that is not there, a layer that is named twice, an
    edit that would change nothing, a RoPE scaling on top of another one.
    """
    check_edit_names(edit)
    edits_of(edit, config)
