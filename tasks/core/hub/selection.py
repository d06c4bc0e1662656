"""Which files of a repository or a directory make up the model, told from their names alone.

Covers one set of weights (safetensors if there, else PyTorch's .bin; never both, because together
they are twice the model), configuration, tokenizer, code, templates, licence and card. Leaves out
other formats (GGUF, ONNX, `consolidated.*`), variants such as fp16, and optimizer states.
"""

import re
from collections.abc import Collection, Iterable

from tasks.core.errors import NotAModel

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.")
_BESIDE_THE_WEIGHTS = re.compile(
    r"[^/]+\.(json|txt|model|tiktoken|jinja|py)"
    r"|additional_chat_templates/[^/]+\.jinja"
    r"|(LICEN[CS]E|NOTICE|USE_POLICY)[^/]*|README\.md",
    re.IGNORECASE,
)
_FORMATS = (("model", "safetensors"), ("pytorch_model", "bin"))


def choose_files(names: Iterable[str], *, where: object) -> tuple[str, ...]:
    """Return the names that make up the model, sorted.

    Raises NotAModel when there is no configuration, or no set of weights that is complete.
    """
    present = set(names)
    if "config.json" not in present:
        raise NotAModel(
            "There is no config.json.",
            where=where,
            found=_some(present),
            next_step="Name a repository or directory that transformers can load.",
        )
    weights = _choose_weights(present, where)
    others = {
        name
        for name in present
        if _BESIDE_THE_WEIGHTS.fullmatch(name) and not name.endswith(".index.json")
    }
    return tuple(sorted(weights | others))


def _choose_weights(present: Collection[str], where: object) -> set[str]:
    missing: list[str] = []
    for stem, suffix in _FORMATS:
        single = f"{stem}.{suffix}"
        if single in present:
            return {single}
        index = f"{single}.index.json"
        if index in present:
            shards, absent = _shards(present, stem, suffix)
            if shards and not absent:
                return {index, *shards}
            missing += absent or [f"the shards of {index}"]
    raise NotAModel(
        "There are no weights that transformers can load.",
        where=where,
        expected="model.safetensors or pytorch_model.bin, whole or in shards with their index",
        found=f"missing: {', '.join(missing)}" if missing else _some(present),
        next_step="Choose a revision that has them, or convert the model to safetensors first.",
    )


def _shards(present: Collection[str], stem: str, suffix: str) -> tuple[set[str], list[str]]:
    """Return the shards of one format and the names that would make them complete.

    When there are several sets (of-00002 beside of-00003), all belong: only the index inside knows
    which is meant.
    """
    pattern = re.compile(rf"{stem}-\d{{5}}-of-\d{{5}}\.{suffix}")
    shards = {name for name in present if pattern.fullmatch(name)}
    totals = {match[2] for name in shards if (match := _SHARD.search(name))}
    wanted = {
        f"{stem}-{number:05d}-of-{total}.{suffix}"
        for total in totals
        for number in range(1, int(total) + 1)
    }
    return shards, sorted(wanted - shards)


def _some(names: Collection[str]) -> str:
    shown = sorted(names)[:8]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") if shown else "nothing"
