"""Which files of a model directory are published: those on a list, and none with a secret in it.

A model directory on somebody's disk holds more than the model: notes, logs, a token in a text file,
weights in a second format. What is published goes by an allow list: one set of weights, what
`weights.companions` sends of what goes with a model, the code that a configuration names with what
that imports, and the pictures that the card shows. Does not look into weights.
"""

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from tasks.core.errors import HubError, SecretFound
from tasks.core.files.foreign import read_whole
from tasks.core.files.listing import refuse
from tasks.core.hub.download.model_files import choose_files
from tasks.core.hub.publish.code import code_files
from tasks.core.weights.companions import (
    ADAPTER_FILES,
    OTHER,
    READ_BY_NAME,
    TERMS,
    kind_of,
    require_vocabulary,
)
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

_SECRET_NAME = re.compile(
    r"(?:^|[^a-z])(?:tokens?|secrets?|passwords?|passwd|credentials?|api[-_.]?keys?|private[-_.]?keys?)"
    r"(?:[^a-z]|$)|(?:^|/)(?:\.env|\.netrc|id_(?:rsa|dsa|ecdsa|ed25519))|\.(?:pem|key|p12|pfx)$",
    re.IGNORECASE,
)
_SECRETS = {
    "a token of Hugging Face": rb"hf_[A-Za-z0-9]{30,}",
    "an access key of AWS": rb"(?:AKIA|ASIA)[0-9A-Z]{16}",
    "an API key that begins with sk-": rb"sk-(?:[a-z]+-)*[A-Za-z0-9_]{20,}",
    "a token of GitHub": rb"(?:gh[opsu]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{40,})",
    "a token of GitLab": rb"glpat-[A-Za-z0-9_-]{20}",
    "a token of Slack": rb"xox[abprs]-[A-Za-z0-9-]{10,}",
    "a key of Google": rb"AIza[A-Za-z0-9_-]{35}",
    "a private key": rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
}
_SECRET = re.compile(b"|".join(b"(?<![A-Za-z0-9])(%s)" % pattern for pattern in _SECRETS.values()))
_SMALL_BYTES = 1 << 20
"""Larger files are vocabularies; a secret is not looked for in them."""


def files_below(model: Path) -> list[str]:
    """Return the files of a model directory, sorted; caches and what is hidden has no entry each.

    A directory whose name begins with a dot, or that holds Python's bytecode, is not entered.
    """
    found = []
    for place, below, names in os.walk(model, onerror=refuse):
        below[:] = [name for name in below if not name.startswith(".") and name != "__pycache__"]
        found += [Path(place, name).relative_to(model).as_posix() for name in names]
    return sorted(found)


def choose_to_publish(model: Path, names: Iterable[str], card: str = "") -> tuple[str, ...]:
    """Return which of the files of a model directory are published with the card, sorted.

    Raises NotAModel when they make up no model, or one without its tokenizer or its code;
    SecretFound when one that would be sent has the name of a secret or a secret in it.
    """
    present = set(names)
    chosen = choose_files(
        present, where=model, read_listing=lambda name: read_listing(model / name)
    )
    weights = {name for name in chosen if name.endswith(_WEIGHTS)}
    code = code_files(model, present)
    beside = {name for name in present if (kind := kind_of(name)) and kind.to_hub == "always"}
    if not code and not any(name.endswith(".tiktoken") for name in beside):
        require_vocabulary(beside, where=model)
    pictures = _pictures(card, present)
    for name in sorted({name for name in beside if kind_of(name) is TERMS} | pictures):
        _require_harmless_name(model, name)
    for name in sorted(beside | code | pictures):
        path = model / name
        if path.is_file() and path.stat().st_size <= _SMALL_BYTES:
            require_no_secret(read_whole(path), where=path)
    return tuple(sorted(weights | beside | code | pictures))


def require_harmless(
    kept: Iterable[str], published: Collection[str], *, where: str, remedy: str
) -> None:
    """Raise HubError when a file beside the published ones would be loaded with them.

    kept are files of somebody else, which are not removed. remedy is how they are.
    """
    first = next((name for name in _LOADED_FIRST if name in published), _LOADED_FIRST[-1])
    before = _LOADED_FIRST[: _LOADED_FIRST.index(first)]
    loaded = [
        name for name in kept if name in (*before, *ADAPTER_FILES) or kind_of(name) is READ_BY_NAME
    ]
    if loaded:
        raise HubError(
            "Files of somebody else stand where the model goes, and would be loaded with it.",
            where=where,
            expected="no such file but those of this project's builds",
            found=", ".join(sorted(loaded)),
            next_step=f"Remove them ({remedy}), or publish to another place.",
        )


def why_left_out(name: str) -> str:
    """Return the reason for which a file of a model directory is not published."""
    reasons = (
        (name == "README.md", "the model card takes its place"),
        (name == ".gitattributes", "the Hub writes its own"),
        (name == "model.sig", "it is the signature of other files: `publish.signed_by` makes one"),
        (name == "manifest.json", "it is the record of a local store"),
        (looks_like_a_secret(name), "its name looks like that of a secret"),
        (name in ADAPTER_FILES, "a loader would put the adapter on the model a second time"),
        (name.endswith(_OTHER_WEIGHTS), "the weights are published once, in one format"),
    )
    return next((why for holds, why in reasons if holds), (kind_of(name) or OTHER).why_not)


def is_weights(name: str) -> bool:
    """Return whether a published file holds weights."""
    return name.endswith((".safetensors", ".bin"))


def looks_like_a_secret(name: str) -> bool:
    """Return whether a file's name is one that people give to secrets."""
    return bool(_SECRET_NAME.search(name))


def require_no_secret(content: bytes, *, where: object) -> None:
    """Return when there is no known kind of token or key in content; else raise SecretFound.

    The error names the line and the kind, never the secret.
    """
    match = _SECRET.search(content)
    if match is None:
        return
    kind = list(_SECRETS)[(match.lastindex or 1) - 1]
    line = content.count(b"\n", 0, match.start()) + 1
    raise SecretFound(
        "A file that would be published holds a secret.",
        where=f"{where}, line {line}",
        found=f"what looks like {kind}",
        next_step="Take it out of the file, and make it invalid where it came from if anybody "
        "else has had the file. Then publish again; nothing was sent.",
    )


def _require_harmless_name(model: Path, name: str) -> None:
    if looks_like_a_secret(name):
        raise SecretFound(
            "A file that would be published has the name of a secret.",
            where=model / name,
            next_step="Move it out of the model's directory, or rename it if it holds none.",
        )


def _pictures(card: str, present: set[str]) -> set[str]:
    """Return the pictures among the files that the card shows by a relative path."""
    shown = {(match[1] or match[2]).removeprefix("./") for match in _SHOWN.finditer(card)}
    return {name for name in shown & present if _PICTURE.search(name)}
