"""The chat template in the tokenizer's files of a model directory, for every other tool.

The invariant: `apply_chat_template` of a tokenizer that is loaded from there gives the tokens that
FastChat sends to the model. Nothing else in the files changes.
"""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.conversation.chat_template import chat_template
from tasks.core.conversation.template import get_template
from tasks.core.conversation.tokenizer_files import load_tokenizer
from tasks.core.errors import RecipeError
from tasks.core.files.digests import FileDigest, digest_of
from tasks.core.files.durable import write_atomically
from tasks.core.files.foreign import read_json_object
from tasks.core.model.template_record import TEMPLATE_RECORD, record_template, recorded_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

TEMPLATE_FILE = "chat_template.jinja"
"""Where transformers looks first, since 4.43; older programs read the configuration."""
_CONFIGURATION = "tokenizer_config.json"


def with_chat_template(model: Path, template_name: str) -> dict[str, FileDigest]:
    """Write the chat template, and which it is; return the digests of what was written.

    A template without a translation is no obstacle: FastChat serves it all the same, and the log
    says so. A model that records another one keeps what it has: until it is trained with this one,
    it is prompted as before.
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
    """Write into a fused model the template that its adapter was trained with, if that is known."""
    template = recorded_template(adapter)
    return {} if template is None else with_chat_template(fused, template)


def write_chat_template(model: Path, template_name: str) -> tuple[str, ...]:
    """Write FastChat's template of this name into the tokenizer's files; return their names.

    Each is replaced as a whole, so that a file that is linked with another model's stays what it is
    there. Raises RecipeError when the template has no translation, NotAModel when the tokenizer
    cannot be loaded.
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

    FastChat lets the tokenizer put its first token, and `apply_chat_template` keeps it from that.
    LLaMA's then puts a space before the words only in some versions.
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
