"""Which conversation template a model was trained with: one small file beside its chat template.

A name of FastChat's stands in no file that other programs write, and a model that is prompted in
another template than its own answers, only worse. So the fine-tune records it with the adapter, and
the file goes wherever the model goes. The invariant: what a model records is never overruled, only
replaced by training it with another template.
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
    """Return the template that a model or an adapter records, None for one that records none.

    Raises NotAModel for a record that cannot be read.
    """
    path = model / TEMPLATE_RECORD
    if not path.is_file():
        return None
    name = read_json_object(path, next_step=_HOW_TO_CORRECT).get(_FIELD)
    if not isinstance(name, str) or not name:
        raise NotAModel(
            "The record of the conversation template holds none.",
            where=path,
            expected=f'{{"{_FIELD}": "{DEFAULT_TEMPLATE}"}}',
            found=name,
            next_step=_HOW_TO_CORRECT,
        )
    return name


def record_template(model: Path, template: str) -> FileDigest:
    """Write into a directory that its model or adapter was trained with the template."""
    path = model / TEMPLATE_RECORD
    write_atomically(path, canonical_json({_FIELD: template}) + b"\n")
    return digest_of(path)


def template_for(model: Path, told: str | None, *, next_step: str | None = None) -> str:
    """Return the template to use a model with: the one that is told, else its own, else Vicuna's.

    Raises TemplateMismatch when another one is told than the model records; next_step adds what
    the caller's user can do.
    """
    recorded = recorded_template(model)
    if told is not None:
        way_out = next_step or f"Leave the template out, or give {recorded}."
        require_recorded(recorded, told, model, next_step=way_out)
    return told or recorded or DEFAULT_TEMPLATE


def require_recorded(recorded: str | None, told: str, where: object, *, next_step: str) -> None:
    """Raise TemplateMismatch when another template is recorded than the one that is told."""
    if recorded is not None and recorded != told:
        raise TemplateMismatch(
            "The model was trained with another conversation template.",
            where=where,
            expected=recorded,
            found=told,
            next_step=f"{next_step} To use {told}, fine-tune the model with it. {_HOW_TO_CORRECT}",
        )


_HOW_TO_CORRECT = f"If the record is wrong, correct or remove {TEMPLATE_RECORD} in the directory."
