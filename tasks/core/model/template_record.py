"""The conversation template that a model was trained with: one small file beside its chat template.

No other program's files name a FastChat template, and a model prompted with the wrong template
still answers, only worse. So the fine-tune records it with the adapter, and the file is copied with
the model. The invariant: a recorded template is never overruled, only replaced by training with
another one.
"""

from pathlib import Path

from tasks.core.errors import NotAModel, TemplateMismatch
from tasks.core.files.digests import FileDigest, digest_of
from tasks.core.files.durable import write_atomically
from tasks.core.files.foreign import read_json_object
from tasks.core.keys import canonical_json
from tasks.core.recipe import Recipe

TEMPLATE_RECORD = "conversation_template.json"
DEFAULT_TEMPLATE: str = Recipe.model_fields["template"].default
_FIELD = "conversation_template"


def recorded_template(model: Path) -> str | None:
    """Return the template that a model or an adapter records, None where it records none.

    Raises NotAModel for a record that cannot be read.
    """
    path = model / TEMPLATE_RECORD
    if not path.is_file():
        return None
    name = read_json_object(path, next_step=_HOW_TO_CORRECT).get(_FIELD)
    if not isinstance(name, str) or not name:
        raise NotAModel(
            "The record of the conversation template names no template.",
            where=path,
            expected=f'{{"{_FIELD}": "{DEFAULT_TEMPLATE}"}}',
            found=name,
            next_step=_HOW_TO_CORRECT,
        )
    return name


def record_template(model: Path, template: str) -> FileDigest:
    """Record in a directory that its model or adapter was trained with the template."""
    path = model / TEMPLATE_RECORD
    write_atomically(path, canonical_json({_FIELD: template}) + b"\n")
    return digest_of(path)


def template_for(model: Path, given: str | None, *, next_step: str | None = None) -> str:
    """Return the template to use a model with: the given one, else its own, else Vicuna's.

    Raises TemplateMismatch when the given one differs from the recorded one; next_step replaces the
    advice in the error.
    """
    recorded = recorded_template(model)
    if given is not None:
        way_out = next_step or f"Omit the template, or use {recorded}."
        require_recorded(recorded, given, model, next_step=way_out)
    return given or recorded or DEFAULT_TEMPLATE


def require_recorded(recorded: str | None, given: str, where: object, *, next_step: str) -> None:
    """Raise TemplateMismatch when another template is recorded than the one that is given."""
    if recorded is not None and recorded != given:
        raise TemplateMismatch(
            "The model was trained with another conversation template.",
            where=where,
            expected=recorded,
            found=given,
            next_step=f"{next_step} To use {given}, fine-tune the model with it. {_HOW_TO_CORRECT}",
        )


_HOW_TO_CORRECT = f"If the record is wrong, correct or remove {TEMPLATE_RECORD} in the directory."
