"""A model's tokenizer, read from a directory or a Hub repository, without the model's weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tasks.core.conversation.tokenizer_growth import require_bounded_growth
from tasks.core.files.foreign import understood
from tasks.core.model.code import brings_only_our_code

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(
    model: str | Path, revision: str = "main", *, code: Literal["ours", "any"] = "ours"
) -> "PreTrainedTokenizerBase":
    """Return the tokenizer. Raises NotAModel when there is none that can be loaded.

    Of the code that travels with a model in a directory only ours is run, that of an edit's
    configuration: the process may have the tokens of the Hub. One that has none may run any.
    """
    from transformers import AutoTokenizer

    local = Path(model).is_dir()
    if local:
        require_bounded_growth(Path(model))
    next_step = _COPY if code == "ours" else None
    with understood("the model's tokenizer", model, next_step=next_step):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            model,
            revision=revision,
            trust_remote_code=local and (code == "any" or brings_only_our_code(Path(model))),
            local_files_only=local,
        )
        tokenizer("a")  # some of what is wrong shows only then
        return tokenizer


_COPY = (
    "Copy the tokenizer's files from the base model. A tokenizer with code of its own is not run."
)
