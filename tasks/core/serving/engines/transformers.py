"""transformers' continuous batching as an engine: many answers at once, in this environment."""

import importlib.util

from tasks.core.errors import RecipeError
from tasks.core.recipe.deploy import Deploy
from tasks.core.serving.engines.own import OwnEngine
from tasks.core.serving.engines.request import OPTIONAL_FIELDS


class Transformers(OwnEngine):
    """A ContinuousBatchingManager behind this project's server."""

    name = "transformers"
    module = "tasks.core.serving.engines.transformers_process"
    takes = OPTIONAL_FIELDS

    def check(self, settings: Deploy) -> None:
        """Raise RecipeError for settings that it does not support."""
        if settings.gpus > 1:
            raise RecipeError(
                "The engine `transformers` uses a single GPU.",
                where="deploy",
                expected="gpus: 1, or engine: fastchat or vllm",
                found=f"gpus: {settings.gpus}",
            )
        if settings.load_8bit and settings.device == "cpu":
            raise RecipeError(
                "The engine `transformers` supports 8-bit weights on a GPU only.",
                where="deploy",
                expected="load_8bit: false (`--no-load-8bit`), or engine: fastchat",
                found="load_8bit: true, device: cpu",
            )
        if settings.load_8bit and importlib.util.find_spec("bitsandbytes") is None:
            raise RecipeError(
                "For 8-bit weights the engine `transformers` needs the package bitsandbytes.",
                where="deploy",
                expected="load_8bit: false (`--no-load-8bit`), or the package",
                found="load_8bit: true, no package bitsandbytes in this environment",
                next_step="pip install bitsandbytes",
            )
