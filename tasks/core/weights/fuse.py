"""LoRA fusing: each weight that an adapter names gets its update, the rest is copied.

Covers what `adapter` reads: linear layers (also stored (in, out)) and embeddings, with DoRA, PiSSA
and OLoRA, parameters of experts, and weights that were saved whole, including rows for added
tokens. The arithmetic is in `fusing`.

The invariant: a tensor that the adapter does not name keeps its bits.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from tasks.core.errors import AdapterMismatch
from tasks.core.files.foreign import JsonObject
from tasks.core.model.template_record import TEMPLATE_RECORD
from tasks.core.progress import OnProgress, silent
from tasks.core.weights.adapter import EMBEDDINGS, Adapter, read_adapter
from tasks.core.weights.added_tokens import added_tokens
from tasks.core.weights.companion_kinds import has_vocabulary, is_of_tokenizer
from tasks.core.weights.companions import Companions, companion_files, file_names, json_bytes
from tasks.core.weights.fusing import Fusing
from tasks.core.weights.index import ModelIndex, read_index
from tasks.core.weights.layout import MAX_SHARD_BYTES, TensorSpec, plan_layout
from tasks.core.weights.model_check import require_promised, require_unquantized
from tasks.core.weights.produce import ProducedModel, WeightsWork, produce
from tasks.core.weights.reader import TensorReader
from tasks.core.weights.small_files_check import check_small_files
from tasks.core.weights.tokenizer_check import require_tokenizer


def fuse_adapter(
    model: Path,
    adapter: Path,
    out: Path,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    threads: int | None = None,
    on_progress: OnProgress = silent,
) -> ProducedModel:
    """Write model with the PEFT adapter fused into it to the directory out, and return it.

    Weights keep their dtype; the model's other files are copied, code included; a tokenizer or chat
    template that was saved with the adapter replaces the model's. on_progress counts bytes of the
    result. Raises AdapterMismatch for an adapter that does not fit or uses features that cannot be
    fused, and what the checks, the reader and the writer of weights raise.
    """
    config, index = check_small_files(model), read_index(model)
    require_unquantized(config, index)
    require_promised(config, index)
    require_tokenizer(model)
    plan = read_adapter(adapter, index, config)
    specs = [TensorSpec(e.name, e.dtype, plan.shape(e)) for e in index.tensors.values()]
    layout = plan_layout(specs, max_shard_bytes)
    how = repr((sorted(plan.low_rank.items()), sorted(plan.replaced.items())))
    with TensorReader(plan.index) as tensors, Overlaid(index, plan) as weights:
        return produce(
            WeightsWork("fuse", (index, plan.index), layout, parameters=how),
            [Overlaid(index, plan)],
            Fusing(plan, tensors, weights),
            _companions(model, adapter, config, plan, index),
            out,
            threads=threads,
            on_progress=on_progress,
        )


class Overlaid(TensorReader):
    """Reads a model's tensors, with those that an adapter saved whole in place of the model's."""

    def __init__(self, model: ModelIndex, adapter: Adapter) -> None:
        super().__init__(model)
        self._replaced = adapter.replaced
        self._trained = TensorReader(adapter.index)

    def __enter__(self) -> Self:
        self._trained.__enter__()
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self._trained.__exit__(kind, error, trace)

    def read(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Return elements start to stop, as TensorReader does, in their stored type."""
        trained = self._replaced.get(name)
        if trained is None:
            return super().read(name, start, stop)
        return self._trained.read(trained, start, stop)


def _companions(
    model: Path, adapter: Path, config: JsonObject, plan: Adapter, index: ModelIndex
) -> Companions:
    """Return the model's files, with the adapter's tokenizer and chat template replacing its own.

    A tokenizer saved with the adapter is the one that it was trained with.
    """
    companions = companion_files(model)
    own = {n: adapter / n for n in file_names(adapter) if is_of_tokenizer(n)}
    trained_with = {n: adapter / n for n in (TEMPLATE_RECORD,) if (adapter / n).is_file()}
    if has_vocabulary(own):
        companions = {
            name: path
            for name, path in companions.items()
            # transformers 5 does not save sentencepiece's vocabulary again; it stays valid.
            if name == "tokenizer.model" or not is_of_tokenizer(name)
        }
    rows = [plan.shape(entry) for name, entry in index.tensors.items() if name.endswith(EMBEDDINGS)]
    if own and rows:
        _require_rows_for_tokens(adapter, rows[0][0])
    changed: dict[str, Path | bytes] = {**companions, **own, **trained_with}
    if rows and rows[0][0] != config.get("vocab_size"):
        changed["config.json"] = json_bytes({**config, "vocab_size": rows[0][0]})
    return changed


def _require_rows_for_tokens(adapter: Path, rows: int) -> None:
    """Raise AdapterMismatch when the adapter's tokenizer has tokens without an embedding row."""
    beyond = sorted(token for token, number in added_tokens(adapter).items() if number >= rows)
    if beyond:
        raise AdapterMismatch(
            "The adapter's tokenizer has tokens without an embedding row.",
            where=adapter,
            expected=f"tokens below {rows}, the rows of the embedding",
            found=", ".join(beyond[:6]),
            next_step="Save the adapter with save_embedding_layers=True; or, if these tokens were "
            "never used, remove the tokenizer's files from the adapter's directory.",
        )
