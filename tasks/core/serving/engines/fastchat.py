"""FastChat as an engine: the one of the design card; a few answers at once, not batched."""

from tasks.core.errors import RecipeError
from tasks.core.recipe.deploy import Deploy
from tasks.core.serving.engines.own import OwnEngine


class FastChat(OwnEngine):
    """FastChat's model worker behind this project's server."""

    name = "fastchat"
    module = "tasks.core.serving.engines.fastchat_process"
    takes = frozenset({"top_k", "repetition_penalty", "seed", "logprobs", "prompt_logprobs"})

    def check(self, settings: Deploy) -> None:
        """Raise RecipeError for settings that FastChat would silently ignore."""
        if settings.load_8bit and settings.gpus > 1:
            raise RecipeError(
                "FastChat cannot spread 8-bit weights over several GPUs; it would load 16 bits.",
                where="deploy",
                expected="load_8bit: false, or gpus: 1",
                found=f"load_8bit: true, gpus: {settings.gpus}",
            )
