"""The identity of a tokenizer: a digest of everything that decides the tokens of a text."""

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_DECIDING = ("added_tokens", "normalizer", "pre_tokenizer", "post_processor", "model")


def tokenizer_digest(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return the SHA-256 of the deciding parts of a fast tokenizer, as loaded.

    Not of its files: saved again by another version of transformers, with another chat template or
    for a longer context, it is still the same tokenizer.
    """
    backend: Any = tokenizer
    content = json.loads(backend.backend_tokenizer.to_str())
    deciding = {part: content[part] for part in _DECIDING}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
