"""Which files belong to a model besides its weights, by their names. Pure.

The one list for download, merge, edit, fuse and publish, and which of these files are published.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from tasks.core.model.edit_fingerprint import FINGERPRINT_FILE
from tasks.core.model.template_record import TEMPLATE_RECORD
from tasks.core.weights.index import ADAPTER_WEIGHTS
from tasks.core.weights.weight_files import LISTINGS

VOCABULARIES = (
    *("tokenizer.model", "tokenizer.json", "vocab.json", "vocab.txt"),
    *("spiece.model", "sentencepiece.bpe.model"),
)
TOKENIZER_FILES = (
    *VOCABULARIES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
"""What transformers' tokenizers read and write, sentencepiece's model first; in addition,
`additional_chat_templates/*.jinja`."""

CHAT_TEMPLATES = re.compile(r"chat_template\.(jinja|json)|additional_chat_templates/[^/]+\.jinja")
_CONFIGURATIONS = (
    *("config.json", "generation_config.json"),
    *("preprocessor_config.json", "processor_config.json"),
    TEMPLATE_RECORD,
)


@dataclass(frozen=True)
class CompanionKind:
    """A kind of file beside the weights, known by its name: it is copied wherever the model goes.

    to_hub: whether it is published too; why_not: the reason where it is not.
    """

    names: re.Pattern[str]
    to_hub: Literal["always", "where a configuration names them", "never"]
    why_not: str = ""


READ_BY_NAME = CompanionKind(
    re.compile(
        "|".join(
            (
                *map(re.escape, (*TOKENIZER_FILES, *_CONFIGURATIONS)),
                r"[^/.][^/]*\.tiktoken",
                CHAT_TEMPLATES.pattern,
            )
        )
    ),
    "always",
)
OF_THESE_WEIGHTS = CompanionKind(re.compile(re.escape(FINGERPRINT_FILE)), "always")
"""Describes these very weights: copied with the model, but not into a model made from it."""
TERMS = CompanionKind(
    re.compile(
        r"(LICEN[CS]ES?|COPYING|NOTICES?|USE_POLICY|USAGE_POLICY)([-_. ][\w .()-]+)?",
        re.IGNORECASE,
    ),
    "always",
)
MODEL_CODE = CompanionKind(
    re.compile(r"(?:[^/.][^/]*/)*[^/.][^/]*\.py"),
    "where a configuration names them",
    "no configuration names this code",
)
OTHER_FILES = CompanionKind(
    re.compile(r"[^/.][^/]*\.(json|txt|model|spm|bpe)"),
    "never",
    "no model is loaded from such a file",  # and it may hold anything
)
_KINDS = (READ_BY_NAME, OF_THESE_WEIGHTS, TERMS, MODEL_CODE, OTHER_FILES)
"""The one list: a file is of the first kind whose pattern its name matches."""

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_FILES = (ADAPTER_CONFIG, *ADAPTER_WEIGHTS.values())
"""A PEFT adapter's own files. Beside a model, they make a loader apply the adapter to it."""

_LEFTOVERS = frozenset(
    (
        *LISTINGS,  # written anew, or selected with the weights
        *ADAPTER_FILES,
        "manifest.json",  # the store's: the identity of the input
        "training.json",
        "trainer_state.json",
        "all_results.json",
        "train_results.json",
        "eval_results.json",
        "requirements.txt",
    )
)


def companion_kind(name: str) -> CompanionKind | None:
    """Return the kind of a file in a model directory, None where it does not belong to the model.

    The one list, for download, merge, edit, fuse and publish: configuration, tokenizer, chat
    templates, code, licences. Not the weights, which their index names, nor the model card, which
    describes one model alone, nor leftovers of a training.
    """
    if PurePosixPath(name).name in _LEFTOVERS or "__pycache__" in name:
        return None
    return next((kind for kind in _KINDS if kind.names.fullmatch(name)), None)


def belongs_to_model(name: str) -> bool:
    """Return whether the file of this name in a model directory is copied with the model."""
    return companion_kind(name) is not None


def is_of_tokenizer(name: str) -> bool:
    """Return whether the file belongs to a tokenizer."""
    return name in TOKENIZER_FILES or bool(CHAT_TEMPLATES.fullmatch(name))


def left_behind(names: Iterable[str]) -> tuple[str, ...]:
    """Return which of a model's files make up an adapter, which is not copied with the model."""
    return tuple(sorted(name for name in names if name in ADAPTER_FILES))


def has_vocabulary(names: Iterable[str]) -> bool:
    """Return whether a tokenizer's vocabulary is among the files."""
    return any(name in VOCABULARIES for name in names)
