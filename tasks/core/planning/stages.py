"""What each stage of a recipe takes: disk, network, host memory, and a rough time.

Covers a first run, with an empty store; a stage that is already in the store costs nothing. Times
are transfer times at the given rates: right within a factor of two, no better. Whether a stage fits
is decided elsewhere.

The invariant: with `keep: all` the store keeps every stage's result, so the disk that a run needs
is the sum. With `keep: released` the delta is freed once it is merged, and every model but the
released one once the gate has passed, because the evaluation measures them all. An edit shares its
weights with the model that it was made from, so they are freed only when neither is released.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tasks.core.planning.shape import DTYPE_BYTES, ModelShape
from tasks.core.planning.times import START_S, Rates
from tasks.core.planning.training_memory import lora_params, training_memory
from tasks.core.recipe import Dtype, Evaluate, Finetune, Publish, Recipe
from tasks.core.units import GB

StageName = Literal[
    "download", "merge", "edit", "finetune", "fuse", "evaluate", "publish", "deploy"
]

STREAMING_BYTES = GB // 2


@dataclass(frozen=True)
class Sizes:
    """What only the Hub or the data can tell; None before they were asked.

    conversation_tokens: the mean length of a training conversation, truncated and padded.
    """

    base_bytes: int | None = None
    delta_bytes: int | None = None
    training_tokens: int | None = None
    conversation_tokens: float | None = None
    held_out_conversations: int = 30
    held_out_tokens: int = 5_000
    stored_dtype: Dtype = "float16"


@dataclass(frozen=True)
class StageNeed:
    """What one stage adds to the disk, moves over the network, and needs in host memory."""

    name: StageName
    disk_bytes: int = 0
    download_bytes: int = 0
    upload_bytes: int = 0
    host_bytes: int = 0
    seconds: float | None = None
    note: str = ""


def stage_needs(
    recipe: Recipe, shape: ModelShape, sizes: Sizes | None = None, rates: Rates | None = None
) -> tuple[StageNeed, ...]:
    """Return the needs of the recipe's own stages in the order in which they run.

    The host memory of fine-tuning is that of the settings as asked. Its time, and that of an
    evaluation on a CPU, are left out: they depend on the machine.
    """
    sizes, rates = sizes or Sizes(), rates or Rates()
    base = sizes.base_bytes or shape.weight_bytes("float16")
    result = shape.weight_bytes(recipe.delta.dtype) if recipe.delta else base
    disk = rates.disk_bytes_per_s
    delta = sizes.delta_bytes or shape.weight_bytes("float16")
    needs = [_download(recipe, base, delta, rates)]
    if recipe.delta:
        moved = base + delta + result
        note = "streamed: base and delta are read and the sum written once"
        needs.append(StageNeed("merge", result, 0, 0, STREAMING_BYTES, moved / disk, note))
    if recipe.edit:
        note = "weights are hard links; configuration and code are written"
        needs.append(StageNeed("edit", host_bytes=GB, seconds=30, note=note))
    if recipe.finetune:
        needs.append(_finetune(recipe.finetune, shape, sizes))
        note = "streamed: the model is read and written once, with the adapter added"
        seconds = 2 * result / disk
        needs.append(StageNeed("fuse", result, 0, 0, STREAMING_BYTES, seconds, note))
    needs.append(_evaluate(recipe, recipe.evaluate, shape, sizes, disk))
    if recipe.publish:
        needs.append(_publish(recipe, recipe.publish, result, rates))
    if recipe.deploy:
        seconds = START_S["deploy"] + result / disk
        needs.append(StageNeed("deploy", seconds=seconds, note="served from the store, no copy"))
    return tuple(needs)


def _download(recipe: Recipe, base: int, delta: int, rates: Rates) -> StageNeed:
    from_hub = base if recipe.base.repo else 0
    if recipe.delta and recipe.delta.repo:
        from_hub += delta
    local = recipe.hub == "embedded"
    rate = rates.disk_bytes_per_s if local else rates.network_bytes_per_s
    note = "from this machine" if local else "one weight format only, resumable"
    return StageNeed("download", from_hub, from_hub, 0, STREAMING_BYTES, from_hub / rate, note)


def _finetune(finetune: Finetune, shape: ModelShape, sizes: Sizes) -> StageNeed:
    """Return what a fine-tune needs: checkpoints hold the adapter twice and Adam's fp32 states.

    One more than `save_total_limit` exists until the oldest is removed. The prepared data holds a
    token and a label of 4 bytes each.
    """
    a_parameter = 2 * DTYPE_BYTES[finetune.precision] + 12
    checkpoint = lora_params(shape, finetune.lora) * a_parameter
    disk = checkpoint * (finetune.save_total_limit + 1) + 8 * (sizes.training_tokens or 0)
    host = training_memory(shape, finetune).host_bytes
    return StageNeed("finetune", disk, host_bytes=host, note="checkpoints hold LoRA only")


def _evaluate(
    recipe: Recipe, evaluate: Evaluate, shape: ModelShape, sizes: Sizes, disk_rate: float
) -> StageNeed:
    """Return the bytes that are kept beside the one model that is measured.

    Its states (tokens, hidden) before the output layer, and those of the previous model of the
    chain and of the previous release, whose output layers stay in memory.
    """
    states = 3 * DTYPE_BYTES["float32"] * sizes.held_out_tokens * shape.hidden
    if evaluate.device == "cpu":
        heads = 2 * shape.vocab * shape.hidden
        largest = max(shape.embedding_params, shape.layer_params)
        host = 2 * GB + DTYPE_BYTES["float32"] * (largest + heads)
        note = "one model at a time; what does not fit is read layer by layer from the disk"
        return StageNeed("evaluate", states, host_bytes=host, note=note)
    reading = measured_models(recipe) * shape.weight_bytes("float16") / disk_rate
    note = "on the GPU, one model at a time; what does not fit there stays on the host"
    return StageNeed("evaluate", states, host_bytes=3 * GB, seconds=reading, note=note)


def models_dtype(recipe: Recipe, sizes: Sizes) -> Dtype:
    """Return the type that the recipe's models are stored in."""
    return recipe.delta.dtype if recipe.delta else sizes.stored_dtype


def measured_models(recipe: Recipe) -> int:
    """Return how many models an evaluation measures: the chain's, and the previous release."""
    made = sum(stage is not None for stage in (recipe.delta, recipe.edit, recipe.finetune))
    return 2 + made


def _publish(recipe: Recipe, publish: Publish, result: int, rates: Rates) -> StageNeed:
    target = urlsplit(publish.target) if publish.target else None
    if recipe.hub == "embedded" or (target and target.scheme in ("", "file")):
        where = Path(target.path) if target else "the embedded Hub"
        seconds = result / rates.disk_bytes_per_s
        return StageNeed("publish", result, 0, 0, STREAMING_BYTES, seconds, f"a copy in {where}")
    seconds = result / rates.network_bytes_per_s
    return StageNeed("publish", 0, 0, result, STREAMING_BYTES, seconds, "uploaded")


@dataclass(frozen=True)
class DiskUse:
    """Bytes on the disk while each stage runs, for both values of the recipe's `keep`."""

    all: dict[StageName, int]
    released: dict[StageName, int]

    @property
    def all_bytes(self) -> int:
        """The peak when everything is kept: the sum."""
        return max(self.all.values(), default=0)

    @property
    def released_bytes(self) -> int:
        """The peak when inputs are freed."""
        return max(self.released.values(), default=0)


def disk_use(
    recipe: Recipe, needs: Iterable[StageNeed], shape: ModelShape, sizes: Sizes
) -> DiskUse:
    """Return the disk use of the stages in this order."""
    freed = _freed_after(recipe, shape, sizes)
    kept = left = 0
    use = DiskUse({}, {})
    for need in needs:
        kept += need.disk_bytes
        left += need.disk_bytes
        use.all[need.name] = kept
        use.released[need.name] = left
        left -= freed.get(need.name, 0)
    return use


def _freed_after(recipe: Recipe, shape: ModelShape, sizes: Sizes) -> dict[StageName, int]:
    """Return the bytes that can be freed after a stage, of those that `stage_needs` counts."""
    weights = shape.weight_bytes("float16")
    freed: dict[StageName, int] = {}
    inputs = 0
    if recipe.delta:
        freed["merge"] = (sizes.delta_bytes or weights) if recipe.delta.repo else 0
    if recipe.base.repo and (recipe.delta or recipe.finetune):
        inputs += sizes.base_bytes or weights
    if recipe.delta and recipe.finetune:
        inputs += shape.weight_bytes(recipe.delta.dtype)
    freed["evaluate"] = inputs
    return freed
