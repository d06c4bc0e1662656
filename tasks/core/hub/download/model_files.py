"""Which files of a repository or directory make up the model; the others are not downloaded.

One format is taken: safetensors before `.bin` (`weights.weight_files`). Beside the weights come all
files that transformers or FastChat can read (`weights.companion_kinds`), and the model card. Left
out are other formats (GGUF, ONNX, Flax, the original `consolidated.*.pth`), variants such as fp16,
optimizer states, and an adapter that lies beside the model.
"""

from collections.abc import Callable, Iterable

from tasks.core.files.foreign import JsonObject
from tasks.core.model.config import without_config
from tasks.core.weights.companion_kinds import belongs_to_model
from tasks.core.weights.weight_files import choose_weights

CARD = "README.md"
"""The model card."""


def choose_files(
    names: Iterable[str], *, where: object, read_listing: Callable[[str], JsonObject]
) -> tuple[str, ...]:
    """Return the names that make up the model, sorted.

    read_listing returns the index file of sharded weights by its name. Raises NotAModel when there
    is no configuration, and what `choose_weights` raises when no set of weights is complete.
    """
    present = set(names)
    if "config.json" not in present:
        raise without_config(present, where)
    weights = choose_weights(present.__contains__, read_listing, where=where, present=present)
    beside = {name for name in present if belongs_to_model(name)}
    return tuple(sorted({*weights.names, *beside, *({CARD} & present)}))
