"""A model's tokenizer, read from a directory or a Hub repository, without the model's weights."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tasks.core.errors import NotAModel


def load_tokenizer(model: str | Path, revision: str = "main") -> PreTrainedTokenizerBase:
    """Return the tokenizer. Raises NotAModel when there is none that can be loaded.

    Code that travels with a model runs only from a directory, which the user has put there.
    """
    local = Path(model).is_dir()
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            model, revision=revision, trust_remote_code=local, local_files_only=local
        )
    except (OSError, ValueError) as error:
        raise NotAModel(
            "The model's tokenizer cannot be loaded.",
            where=model,
            found=str(error).splitlines()[0],
            next_step="Copy the tokenizer's files from the base model.",
        ) from error
    return tokenizer
