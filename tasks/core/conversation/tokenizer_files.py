"""A model's tokenizer, read from a directory or a Hub repository, without the model's weights."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tasks.core.foreign import understood


def load_tokenizer(model: str | Path, revision: str = "main") -> PreTrainedTokenizerBase:
    """Return the tokenizer. Raises NotAModel when there is none that can be loaded.

    Code that travels with a model runs only from a directory, which the user has put there.
    """
    local = Path(model).is_dir()
    with understood("the model's tokenizer", model, next_step=_COPY):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            model, revision=revision, trust_remote_code=local, local_files_only=local
        )
    return tokenizer


_COPY = "Copy the tokenizer's files from the base model."
