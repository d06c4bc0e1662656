"""Checks of a training before it starts: its settings, its data, and the model's small files.

Plan, preflight, dry run and the training itself all use these, so that none accepts what another
refuses. Whether this machine can run the training is not checked here.
"""

from pathlib import Path

from tasks.core.conversation.preferences import Method
from tasks.core.conversation.prepared import read_prepared
from tasks.core.conversation.reading.data_files import DataFile, detect_formats
from tasks.core.conversation.reading.scan import scan
from tasks.core.conversation.records import Conversation
from tasks.core.conversation.template.render import end_mark, get_template
from tasks.core.conversation.tokenizer.load import load_tokenizer
from tasks.core.conversation.tokenizer.model_limits import (
    check_length,
    check_token_ids,
    check_vocabulary,
)
from tasks.core.errors import DataError
from tasks.core.files.foreign import JsonObject
from tasks.core.model.config import read_config
from tasks.core.recipe import Finetune
from tasks.core.training.deepspeed_config import deepspeed_config
from tasks.core.training.launch.hostfile import require_slots
from tasks.core.training.verify import require_targets
from tasks.core.weights.index import ModelIndex
from tasks.core.weights.model_check import check_model

LENGTH_SETTING = "finetune.max_length_tokens"
_RECORDS_LOOKED_AT = 1000


def check_settings(settings: Finetune, template: str) -> None:
    """Raise RecipeError for settings that cannot work with any model on any machine."""
    end_mark(get_template(template))
    deepspeed_config(settings)
    if settings.hostfile is not None:
        require_slots(settings.hostfile, settings.processes)


def check_data(data: Path, settings: Finetune, template: str) -> None:
    """Raise DataError unless data holds conversations, or examples prepared for these settings."""
    if data.is_dir():
        read_prepared(data, settings, template)
    else:
        check_conversations(data, settings.method)


def check_config(config: JsonObject, settings: Finetune, *, model: object) -> tuple[str, ...]:
    """Return warnings about a model with this configuration. Raises RecipeError, NotAModel."""
    check_token_ids(config, where=model)
    return check_length(config, settings.max_length_tokens, setting=LENGTH_SETTING, model=model)


def check_training(
    model: Path, settings: Finetune, *, data: Path, template: str
) -> tuple[ModelIndex, tuple[str, ...]]:
    """Return the index of the model, and warnings.

    Raises RecipeError, DataError, NotAModel, and what `check_model` raises, for everything that
    would make the training fail later.
    """
    check_settings(settings, template)
    index = check_model(model, in_place=True)
    require_targets(index, settings.lora)
    config = read_config(model)
    warnings = check_config(config, settings, model=model)
    warnings += check_vocabulary(config, load_tokenizer(model), where=model)
    check_data(data, settings, template)
    return index, warnings


def check_conversations(data: Path | DataFile, method: Method = "sft") -> None:
    """Raise DataError unless a conversation (a preference, with `dpo`) is near the start.

    Records are not checked one by one here.
    """
    (file,) = detect_formats(data if isinstance(data, Path) else (data,), method)
    for position, record in scan(file, merge_neighbours=True):
        if isinstance(record, Conversation) or position > _RECORDS_LOOKED_AT:
            return
    kind = "preference" if method == "dpo" else "conversation"
    raise DataError(
        f"There is no {kind} in the training data.",
        where=file.name,
        next_step=f"`kawan-usaha data check {file.name}` says what is wrong with the records.",
    )
