"""Checks that a directory can be served, before anything is started for it."""

from pathlib import Path

from tasks.core.conversation.tokenizer.load import load_tokenizer
from tasks.core.conversation.tokenizer.model_limits import check_token_ids, check_vocabulary
from tasks.core.errors import NotAModel
from tasks.core.model.config import read_config
from tasks.core.weights.companions import tokenizer_files
from tasks.core.weights.model_check import check_model


def require_servable(path: Path) -> Path:
    """Return the absolute path of a directory with a complete model and a tokenizer.

    Raises NotAModel or CorruptWeights, as `check_model`.
    """
    model = path.resolve()
    check_model(model, in_place=True)
    tokenizer_files(model)
    return model


def check_limits(model: Path) -> tuple[str, ...]:
    """Return warnings about tokens that have no row in the embedding.

    Raises NotAModel when the tokenizer itself inserts such a token. A tokenizer that cannot be
    loaded in this process, for example because it has its own code, is left to the engine.
    """
    config = read_config(model)
    check_token_ids(config, where=model)
    try:
        tokenizer = load_tokenizer(model)
    except NotAModel:
        return ()
    return check_vocabulary(config, tokenizer, where=model)
