"""Whether base and delta belong together, judged from configurations and headers alone.

Special cases, applied to each side before the two are compared:

- `*.rotary_emb.inv_freq` is dropped. Checkpoints of 2023 hold this buffer, today's models compute
  it, and FastChat (through transformers) ignores it.
- `lm_head.weight` of a model whose configuration ties it to the input embedding is dropped if it
  holds the embedding's very bytes, as in `.bin` files and some exports: the loader ties it again.
  The embedding is added once. (FastChat adds it once per name, so twice: the result for a tied
  model differs from FastChat's, on purpose.) A head with other bytes is a separate tensor, as in
  transformers 5, and is added as such.
- Every other tensor must be on both sides in the same shape. transformers would fill one that the
  delta lacks with random numbers, and FastChat would leave out one that the base lacks.

The invariant: a BaseAndDelta holds the same names on both sides, each with one shape and a float
dtype.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import DeltaMismatch
from tasks.core.files.foreign import JsonObject
from tasks.core.model.config import ties_embeddings
from tasks.core.weights.added_tokens import added_tokens
from tasks.core.weights.dtypes import FLOATS
from tasks.core.weights.index import ModelIndex, TensorEntry
from tasks.core.weights.reader import same_bytes

_RECOMPUTED = re.compile(r"(^|\.)rotary_emb\.inv_freq$")
_LAYER = re.compile(r"\.(\d+)\.")
_EMBEDDING = "embed_tokens.weight"
_HEAD = "lm_head.weight"

Tensors = Mapping[str, TensorEntry]
Same = Callable[[ModelIndex, TensorEntry, TensorEntry], bool]


@dataclass(frozen=True)
class BaseAndDelta:
    """The tensors to add, by name."""

    base: Tensors
    delta: Tensors

    @property
    def vocab_size(self) -> int | None:
        """The rows of the input embedding, if the model has one under LLaMA's name."""
        return _vocab_size(self.base)


def pair(
    base: ModelIndex, delta: ModelIndex, config: JsonObject, same: Same = same_bytes
) -> BaseAndDelta:
    """Return the tensors to add. config is the base's; same compares two tensors of one side.

    Raises DeltaMismatch, with the likeliest cause first: another size of model, another
    vocabulary, other names, other shapes, or weights that are not floating point.
    """
    tied = ties_embeddings(config)
    of_base, of_delta = _kept(base, tied, same), _kept(delta, tied, same)
    where = f"{base.directory} + {delta.directory}"
    _require_same_size(of_base, of_delta, where)
    _require_same_vocabulary(of_base, of_delta, where, delta.directory)
    _require_same_names(of_base, of_delta, where)
    _require_same_shapes(of_base, of_delta, where)
    for index, tensors in ((base, of_base), (delta, of_delta)):
        _require_floats(tensors, index)
    return BaseAndDelta(of_base, of_delta)


def _kept(index: ModelIndex, tied: bool, same: Same) -> Tensors:
    kept = {name: entry for name, entry in index.tensors.items() if not _RECOMPUTED.search(name)}
    embedding = _embedding(kept)
    if tied and embedding and _HEAD in kept and same(index, kept[_HEAD], embedding):
        del kept[_HEAD]
    return kept


def _embedding(tensors: Tensors) -> TensorEntry | None:
    return next((entry for name, entry in tensors.items() if name.endswith(_EMBEDDING)), None)


def _vocab_size(tensors: Tensors) -> int | None:
    embedding = _embedding(tensors)
    return embedding.shape[0] if embedding and embedding.shape else None


def _require_same_size(base: Tensors, delta: Tensors, where: str) -> None:
    (base_layers, base_width), (delta_layers, delta_width) = _size(base), _size(delta)
    if base_layers != delta_layers or base_width != delta_width:
        raise DeltaMismatch(
            "The delta is for a model of another size.",
            where=where,
            expected=f"{_described(base)}, as the base",
            found=_described(delta),
            next_step="Use the delta that was made for this base: a 7B delta needs the 7B base, "
            "a 13B delta the 13B base.",
        )


def _size(tensors: Tensors) -> tuple[int, int]:
    """Return the layer count and the hidden size, 0 where the names do not reveal them."""
    numbers = [int(match[1]) for name in tensors if (match := _LAYER.search(name))]
    embedding = _embedding(tensors)
    return max(numbers, default=-1) + 1, embedding.shape[-1] if embedding else 0


def _described(tensors: Tensors) -> str:
    layers, width = _size(tensors)
    nbytes = sum(entry.nbytes for entry in tensors.values())
    return f"{layers} layers of width {width}, {nbytes / 1e9:.3g} GB of weights"


def _require_same_vocabulary(base: Tensors, delta: Tensors, where: str, directory: Path) -> None:
    base_rows, delta_rows = _vocab_size(base), _vocab_size(delta)
    if base_rows == delta_rows or base_rows is None or delta_rows is None:
        return
    what, next_step = _other_vocabulary(base_rows, delta_rows, directory)
    raise DeltaMismatch(
        what,
        where=where,
        expected=f"{base_rows} tokens, as the base",
        found=f"{delta_rows} tokens",
        next_step=next_step,
    )


def _other_vocabulary(base_rows: int, delta_rows: int, delta: Path) -> tuple[str, str]:
    """Return what is wrong with a delta of another vocabulary, and what to do.

    A Vicuna delta before v1.1 has one token more than LLaMA, [PAD]; so have deltas of models that
    were trained with an added token, such as WizardLM. The tokenizer's files tell them apart.
    """
    if delta_rows <= base_rows:
        return (
            "Base and delta have vocabularies of different size.",
            "Use the delta that was made for this base.",
        )
    added = [token for token, number in added_tokens(delta).items() if number >= base_rows]
    grow = (
        "add the tokens to the base first: load it with transformers, "
        f"resize_token_embeddings({delta_rows}), save it, and merge with the saved model."
    )
    v1_1 = (
        "use the v1.1 delta of the model (such as lmsys/vicuna-13b-delta-v1.1), which keeps the "
        "base's vocabulary."
    )
    if delta_rows == base_rows + 1 and added in ([], ["[PAD]"]):
        return (
            "The delta has one token more than the base: it is a Vicuna v0 delta ([PAD], before "
            "v1.1), or its model was trained with an added token.",
            f"For Vicuna: {v1_1} For another model: {grow}",
        )
    named = f": {', '.join(added[:4])}" if added else ""
    return (
        f"Base and delta have vocabularies of different size: the delta adds "
        f"{delta_rows - base_rows} tokens{named}.",
        f"{grow[0].upper()}{grow[1:]}",
    )


def _require_same_names(base: Tensors, delta: Tensors, where: str) -> None:
    only_base, only_delta = sorted(base.keys() - delta.keys()), sorted(delta.keys() - base.keys())
    if only_base or only_delta:
        raise DeltaMismatch(
            "Base and delta do not have the same tensors.",
            where=where,
            expected="the same names on both sides",
            found=f"only in the base: {_few(only_base)}; only in the delta: {_few(only_delta)}",
            next_step="Use the delta that was made for this base.",
        )


def _require_same_shapes(base: Tensors, delta: Tensors, where: str) -> None:
    for name, entry in base.items():
        if entry.shape != delta[name].shape:
            raise DeltaMismatch(
                "A tensor has another shape in the delta.",
                where=f"{where}: {name}",
                expected=f"{list(entry.shape)}, as in the base",
                found=list(delta[name].shape),
                next_step="Use the delta that was made for this base.",
            )


def _require_floats(tensors: Tensors, index: ModelIndex) -> None:
    for name, entry in tensors.items():
        if entry.dtype not in FLOATS:
            raise DeltaMismatch(
                "A tensor is not of a floating-point type.",
                where=f"{index.directory}: {name}",
                expected=", ".join(sorted(FLOATS)),
                found=entry.dtype,
                next_step="Use base and delta in 16 or 32 bits.",
            )


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:4]) or "none"
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown
