"""Whether a directory can be served at all, before anything is started for it."""

from pathlib import Path

from tasks.core.weights.companions import tokenizer_files
from tasks.core.weights.model_check import check_model


def require_model(path: Path) -> Path:
    """Return the absolute path of a directory with a whole model and a tokenizer.

    Raises NotAModel or CorruptWeights, as `check_model`.
    """
    model = path.resolve()
    check_model(model, in_place=True)
    tokenizer_files(model)
    return model
