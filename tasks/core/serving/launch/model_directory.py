"""Whether a directory can be served at all, before anything is started for it."""

from pathlib import Path

from tasks.core.conversation.tokenizer.model_limits import check_token_ids, check_vocabulary
from tasks.core.errors import NotAModel
from tasks.core.model.config import read_config
from tasks.core.weights.companions import tokenizer_files
from tasks.core.weights.model_check import check_model


def require_servable(path: Path) -> Path:
    """Return the absolute path of a directory with a whole model and a tokenizer.

    Raises NotAModel or CorruptWeights, as `check_model`.
    """
    model = path.resolve()
    check_model(model, in_place=True)
    tokenizer_files(model)
    return model


def check_limits(model: Path) -> tuple[str, ...]:
    """Return what to warn of: tokens that the embedding has no row for.

    Raises NotAModel when a token that the tokenizer inserts is one of them. A tokenizer that cannot
    be loaded in this process, for one with code of its own, is the worker's to judge.
    """
    from tasks.core.conversation.tokenizer.load import load_tokenizer

    config = read_config(model)
    check_token_ids(config, where=model)
    try:
        tokenizer = load_tokenizer(model)
    except NotAModel:
        return ()
    return check_vocabulary(config, tokenizer, where=model)
