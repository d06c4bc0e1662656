"""Which files of a model directory are published: those on an allow list.

A model directory on somebody's disk holds more than the model: notes, logs, a token in a text file,
weights in a second format. Published are one set of weights, the companions that
`weights.companion_kinds` sends, the code that a configuration names with what it imports, and the
pictures that the card shows; a secret among them stops the publish. Weights are not searched.
"""

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from tasks.core.errors import HubError
from tasks.core.files.listing import refuse
from tasks.core.hub.download.model_files import choose_files
from tasks.core.hub.publish.code import code_files
from tasks.core.hub.publish.secrets import (
    looks_like_a_secret,
    require_no_secret_in,
    require_no_secret_name,
)
from tasks.core.weights.companion_kinds import (
    ADAPTER_FILES,
    OTHER_FILES,
    READ_BY_NAME,
    TERMS,
    companion_kind,
)
from tasks.core.weights.companions import require_vocabulary
from tasks.core.weights.index import read_listing

_PICTURE = re.compile(r"\.(?:png|jpe?g|gif|svg|webp)$", re.IGNORECASE)
_SHOWN = re.compile(
    r"""!\[[^\]]*\]\(\s*<?([^)\s>]+)|<img\b[^>]*\bsrc=["']([^"']+)""", re.IGNORECASE
)
_WEIGHTS = (".safetensors", ".bin", ".index.json")
_OTHER_WEIGHTS = (*_WEIGHTS, ".gguf", ".pth", ".pt", ".onnx", ".msgpack", ".h5", ".ckpt")
_LOADED_FIRST = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""The order in which transformers looks for weights: the first that is there is loaded."""


def files_below(model: Path) -> list[str]:
    """Return the files of a model directory, sorted.

    Directories whose name begins with a dot, and those of Python's bytecode, are not entered.
    """
    found = []
    for place, below, names in os.walk(model, onerror=refuse):
        below[:] = [name for name in below if not name.startswith(".") and name != "__pycache__"]
        found += [Path(place, name).relative_to(model).as_posix() for name in names]
    return sorted(found)


def choose_to_publish(model: Path, names: Iterable[str], card: str = "") -> tuple[str, ...]:
    """Return which of the files of a model directory are published with the card, sorted.

    Raises NotAModel when they are no model, or one without its tokenizer or code; SecretFound when
    one that would be sent has the name of a secret or a secret in it.
    """
    present = set(names)
    chosen = choose_files(
        present, where=model, read_listing=lambda name: read_listing(model / name)
    )
    weights = {name for name in chosen if name.endswith(_WEIGHTS)}
    code = code_files(model, present)
    beside = {
        name for name in present if (kind := companion_kind(name)) and kind.to_hub == "always"
    }
    if not code and not any(name.endswith(".tiktoken") for name in beside):
        require_vocabulary(beside, where=model)
    pictures = _pictures(card, present)
    for name in sorted({name for name in beside if companion_kind(name) is TERMS} | pictures):
        require_no_secret_name(model, name)
    for name in sorted(beside | code | pictures):
        require_no_secret_in(model / name)
    return tuple(sorted(weights | beside | code | pictures))


def require_harmless(
    kept: Iterable[str], published: Collection[str], *, where: str, remedy: str
) -> None:
    """Raise HubError when a file beside the published ones would be loaded with them.

    kept are files of other people, which publishing does not remove; remedy says how to.
    """
    first = next((name for name in _LOADED_FIRST if name in published), _LOADED_FIRST[-1])
    before = _LOADED_FIRST[: _LOADED_FIRST.index(first)]
    loaded = [
        name
        for name in kept
        if name in (*before, *ADAPTER_FILES) or companion_kind(name) is READ_BY_NAME
    ]
    if loaded:
        raise HubError(
            "Files of somebody else would be loaded with the model.",
            where=where,
            expected="no such file but those of this project's builds",
            found=", ".join(sorted(loaded)),
            next_step=f"Remove them ({remedy}), or publish to another place.",
        )


def why_left_out(name: str) -> str:
    """Return why a file of a model directory is not published."""
    reasons = (
        (name == "README.md", "the model card takes its place"),
        (name == ".gitattributes", "the Hub writes its own"),
        (name == "model.sig", "it is the signature of other files: `publish.signed_by` makes one"),
        (name == "manifest.json", "it is the record of a local store"),
        (looks_like_a_secret(name), "its name looks like that of a secret"),
        (name in ADAPTER_FILES, "a loader would put the adapter on the model a second time"),
        (name.endswith(_OTHER_WEIGHTS), "the weights are published once, in one format"),
    )
    return next(
        (why for holds, why in reasons if holds), (companion_kind(name) or OTHER_FILES).why_not
    )


def is_weights(name: str) -> bool:
    """Return whether a published file holds weights."""
    return name.endswith((".safetensors", ".bin"))


def _pictures(card: str, present: set[str]) -> set[str]:
    """Return the pictures among the files that the card shows by a relative path."""
    shown = {(match[1] or match[2]).removeprefix("./") for match in _SHOWN.finditer(card)}
    return {name for name in shown & present if _PICTURE.search(name)}
