"""Whether a directory can be a model at all, before anything is started for it.

Looks at names and at config.json only; weights that are cut off or do not fit are the worker's to
find.
"""

import json
from pathlib import Path

from tasks.core.errors import NotAModel

_NEEDED = {
    "config.json": ("config.json",),
    "weights": ("*.safetensors", "pytorch_model*.bin"),
    "tokenizer": ("tokenizer*",),
}


def require_model(path: Path) -> Path:
    """Return the absolute path of a directory that looks like a model, or raise NotAModel."""
    model = path.resolve()
    missing = [
        part
        for part, patterns in _NEEDED.items()
        if not any(True for pattern in patterns for _ in model.glob(pattern))
    ]
    if missing:
        raise NotAModel(
            "This directory is no model that can be served.",
            where=model,
            expected="config.json, weights (*.safetensors or pytorch_model*.bin), a tokenizer",
            found=f"no {', no '.join(missing)}" if model.is_dir() else "no such directory",
            next_step="Name the directory of a whole model.",
        )
    try:
        json.loads((model / "config.json").read_bytes())
    except ValueError as error:
        raise NotAModel(
            "The model's configuration is not JSON.",
            where=model / "config.json",
            found=error,
            next_step="Download or build the model again.",
        ) from error
    return model
