"""The engines by name."""

import importlib
from typing import Final

from tasks.core.recipe.deploy import EngineName
from tasks.core.serving.engines.base import Engine

_CLASSES: Final[dict[EngineName, str]] = {
    "fastchat": "tasks.core.serving.engines.fastchat:FastChat",
    "transformers": "tasks.core.serving.engines.transformers:Transformers",
    "vllm": "tasks.core.serving.engines.vllm:Vllm",
}


def engine_of(name: EngineName) -> Engine:
    """Return the engine of this name; imports its module."""
    module, _, kind = _CLASSES[name].partition(":")
    engine = getattr(importlib.import_module(module), kind)()
    if not isinstance(engine, Engine):
        raise TypeError(f"{_CLASSES[name]} is no Engine")
    return engine
