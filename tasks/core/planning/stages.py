"""What each stage of a recipe takes: disk, network, host memory, and a rough time.

Covers a first run, with nothing in the store yet; what is there already is reused and costs
nothing. Times are transfer times at the given rates: right within a factor of two, no better.
Whether it fits is not decided here.

The invariant: the store keeps every stage's result, so the disk that a run needs is the sum.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tasks.core.machine.link import LinkSpeed
from tasks.core.planning.activations import sides
from tasks.core.planning.cpu_time import START_S
from tasks.core.planning.rungs import global_batch_size
from tasks.core.planning.shape import DTYPE_BYTES, ModelShape
from tasks.core.planning.training import lora_params, training_memory
from tasks.core.recipe import Dtype, Evaluate, Finetune, Publish, Recipe
from tasks.core.units import GB

StageName = Literal[
    "download", "merge", "edit", "finetune", "fuse", "evaluate", "publish", "deploy"
]

STREAMING_BYTES = GB // 2


@dataclass(frozen=True)
class Sizes:
    """What only the Hub or the data can tell; None where nobody has asked them yet.

    conversation_tokens: what one of the training takes to compute, cut and padded.
    """

    base_bytes: int | None = None
    delta_bytes: int | None = None
    training_tokens: int | None = None
    conversation_tokens: float | None = None
    held_out_conversations: int = 30
    held_out_tokens: int = 5_000
    stored_dtype: Dtype = "float16"


@dataclass(frozen=True)
class Rates:
    """Bytes a second: a line of 100 Mbit/s, a SATA SSD, and PCIe 4.0 between an x8 slot's 12 GB/s
    and the 24 GB/s that an x16 slot reaches; an H100 on PCIe 5.0 reached 29. From memory that is
    not page-locked it was a fifth there. Where the link was measured, that counts instead.
    """

    network_bytes_per_s: float = 12.5e6
    disk_bytes_per_s: float = 500e6
    link_bytes_per_s: float = 16e9
    pageable_bytes_per_s: float = 3.2e9

    def over(self, link: LinkSpeed | None) -> "Rates":
        """Return these rates with those of a link that was measured, if one was."""
        if link is None:
            return self
        pinned, pageable = link.pinned_bytes_per_s, link.pageable_bytes_per_s
        return replace(self, link_bytes_per_s=pinned, pageable_bytes_per_s=pageable)


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
    """Return the needs of the recipe's stages in the order they run, those left out excluded.

    The host memory of fine-tuning is that of the settings as asked. Its time, and that of
    evaluating on a CPU, are not given here: they depend on the machine.
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


def trained_tokens(
    finetune: Finetune, training_tokens: int | None, conversation_tokens: float | None = None
) -> float | None:
    """Return the tokens of all epochs, or of all steps where that is less; None if unknown.

    A conversation of unknown length counts as one of full length, a preference as two.
    """
    at_most = None
    if finetune.max_steps is not None:
        a_conversation = conversation_tokens or sides(finetune) * finetune.max_length_tokens
        at_most = float(finetune.max_steps * global_batch_size(finetune) * a_conversation)
    if training_tokens is None:
        return at_most
    asked = training_tokens * finetune.epochs
    return asked if at_most is None else min(asked, at_most)


def _download(recipe: Recipe, base: int, delta: int, rates: Rates) -> StageNeed:
    from_hub = base if recipe.base.repo else 0
    if recipe.delta and recipe.delta.repo:
        from_hub += delta
    local = recipe.hub == "embedded"
    rate = rates.disk_bytes_per_s if local else rates.network_bytes_per_s
    note = "from this machine" if local else "one weight format only, resumable"
    return StageNeed("download", from_hub, from_hub, 0, STREAMING_BYTES, from_hub / rate, note)


def _finetune(finetune: Finetune, shape: ModelShape, sizes: Sizes) -> StageNeed:
    """A checkpoint holds the adapter twice and Adam's fp32 states; frozen weights are left out.

    One more than are kept is there while the oldest is removed. The prepared data holds a token
    and a label of 4 bytes each.
    """
    a_parameter = 2 * DTYPE_BYTES[finetune.precision] + 12
    checkpoint = lora_params(shape, finetune.lora) * a_parameter
    disk = checkpoint * (finetune.save_total_limit + 1) + 8 * (sizes.training_tokens or 0)
    host = training_memory(shape, finetune).host_bytes
    return StageNeed("finetune", disk, host_bytes=host, note="checkpoints hold LoRA only")


def _evaluate(
    recipe: Recipe, evaluate: Evaluate, shape: ModelShape, sizes: Sizes, disk_rate: float
) -> StageNeed:
    """One model at a time: its states (tokens, hidden) before the output layer, and those of the
    model before it in the chain and of the release before, whose output layers stay in memory.
    """
    states = 3 * DTYPE_BYTES["float32"] * sizes.held_out_tokens * shape.hidden
    if evaluate.device == "cpu":
        heads = 2 * shape.vocab * shape.hidden
        largest = max(shape.embedding_params, shape.layer_params)
        host = 2 * GB + DTYPE_BYTES["float32"] * (largest + heads)
        note = "one model at a time; what does not fit is read layer by layer from the disk"
        return StageNeed("evaluate", states, host_bytes=host, note=note)
    reading = measured_models(recipe) * shape.weight_bytes("float16") / disk_rate
    note = "on the GPU, one model at a time; what does not fit there goes to the host"
    return StageNeed("evaluate", states, host_bytes=3 * GB, seconds=reading, note=note)


def stored_dtype(recipe: Recipe, sizes: Sizes) -> Dtype:
    """Return the type that the recipe's models are stored in."""
    return recipe.delta.dtype if recipe.delta else sizes.stored_dtype


def measured_models(recipe: Recipe) -> int:
    """Return how many models an evaluation measures: the chain's, and the release before."""
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
