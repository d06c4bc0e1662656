"""A model's tokenizer, read from a directory or a Hub repository, without the model's weights."""

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.conversation.tokenizer_growth import require_bounded_growth
from tasks.core.foreign import understood
from tasks.core.model_code import brings_only_our_code

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(model: str | Path, revision: str = "main") -> "PreTrainedTokenizerBase":
    """Return the tokenizer. Raises NotAModel when there is none that can be loaded.

    Runs in the process that has the tokens of the Hub. So of the code that travels with a model
    only ours is run, from a directory: that of an edit's configuration.
    """
    from transformers import AutoTokenizer

    local = Path(model).is_dir()
    if local:
        require_bounded_growth(Path(model))
    with understood("the model's tokenizer", model, next_step=_COPY):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            model,
            revision=revision,
            trust_remote_code=local and brings_only_our_code(Path(model)),
            local_files_only=local,
        )
        return tried(tokenizer)


def tried(tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedTokenizerBase":
    """Return the tokenizer once it has made tokens; some of what is wrong shows only then."""
    tokenizer("a")
    return tokenizer


_COPY = (
    "Copy the tokenizer's files from the base model. A tokenizer with code of its own is not run."
)
