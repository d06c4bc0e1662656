"""The chat template in the tokenizer files of a model directory, for every other tool.

The invariant: `apply_chat_template` of a tokenizer loaded from the directory gives the tokens that
FastChat sends to the model. Nothing else in the files changes.
"""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.conversation.template.jinja import chat_template
from tasks.core.conversation.template.render import get_template
from tasks.core.conversation.tokenizer.load import load_tokenizer
from tasks.core.errors import RecipeError
from tasks.core.files.digests import FileDigest, digest_of
from tasks.core.files.durable import write_atomically
from tasks.core.files.foreign import read_json_object
from tasks.core.model.template_record import TEMPLATE_RECORD, record_template, recorded_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

TEMPLATE_FILE = "chat_template.jinja"
"""Read first by transformers since 4.43; older programs read the configuration."""
_CONFIGURATION = "tokenizer_config.json"


def with_chat_template(model: Path, template_name: str) -> dict[str, FileDigest]:
    """Write the chat template and record its name; return the digests of the files written.

    A template that cannot be translated is only logged, as FastChat can serve it. A model that
    records another template keeps it until it is trained with this one.
    """
    if recorded_template(model) not in (None, template_name):
        return {}
    names: tuple[str, ...] = ()
    try:
        names = write_chat_template(model, template_name)
    except RecipeError as error:
        logger.warning("No chat template is written for other tools. %s", error)
    recorded = {TEMPLATE_RECORD: record_template(model, template_name)}
    return recorded | {name: digest_of(model / name) for name in names}


def with_template_of(adapter: Path, fused: Path) -> dict[str, FileDigest]:
    """Write the template that the adapter was trained with, if known, into the fused model."""
    template = recorded_template(adapter)
    return {} if template is None else with_chat_template(fused, template)


def write_chat_template(model: Path, template_name: str) -> tuple[str, ...]:
    """Write FastChat's template with this name into the tokenizer files; return their names.

    Each file is replaced, never changed in place: it may be a hard link to another model's. Raises
    RecipeError if the template cannot be translated, NotAModel if the tokenizer cannot be loaded.
    """
    text = _fitting_template(load_tokenizer(model), template_name)
    path = model / _CONFIGURATION
    configuration = read_json_object(path) if path.exists() else {}
    write_atomically(model / TEMPLATE_FILE, text)
    configuration["chat_template"] = text
    write_atomically(path, json.dumps(configuration, ensure_ascii=False, indent=2) + "\n")
    return (TEMPLATE_FILE, _CONFIGURATION)


def _fitting_template(tokenizer: "PreTrainedTokenizerBase", template_name: str) -> str:
    """Return the template that begins a text as the tokenizer itself does.

    FastChat lets the tokenizer add its first token; `apply_chat_template` does not. Only some
    versions of LLaMA's tokenizer add a space after it.
    """
    prompt = get_template(template_name).get_prompt() or "a"
    wanted = tokenizer(prompt)["input_ids"]
    bos = tokenizer.bos_token or ""
    for begin, after in (("", ""), (bos, ""), (bos, " ")):
        if tokenizer(begin + after + prompt, add_special_tokens=False)["input_ids"] == wanted:
            return chat_template(template_name, bos=bool(begin), after_bos=after)
    raise RecipeError(
        "No chat template can begin a text as this tokenizer does.",
        where=type(tokenizer).__name__,
        expected=f"its first token {bos!r}, or nothing",
        found=tokenizer.convert_ids_to_tokens(wanted[:2]),
        next_step="Serve with FastChat only, which needs no chat template.",
    )
