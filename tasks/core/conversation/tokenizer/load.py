"""A model's tokenizer, loaded from a directory or a Hub repository, without the weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tasks.core.conversation.tokenizer.growth import require_bounded_growth
from tasks.core.files.foreign import understood
from tasks.core.model.code import brings_only_our_code

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(
    model: str | Path, revision: str = "main", *, code: Literal["ours", "any"] = "ours"
) -> "PreTrainedTokenizerBase":
    """Return the tokenizer. Raises NotAModel if there is none that can be loaded.

    Of the code in a model directory only our own, of an edit's configuration, is run: the process
    may hold a Hub token. A process without one may pass `code="any"`.
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
        tokenizer("a")  # some faults show only on use
        return tokenizer


_COPY = (
    "Copy the tokenizer's files from the base model. A tokenizer with code of its own is not run."
)
