"""The disk that a run takes when all is kept, and when inputs are freed (`keep: released`).

The invariant is that of the flow: the delta goes once it is merged, every other model but the
released one once the gate has passed, because the evaluation measures them all. An edit shares its
weights with the model that it was made from, so they go only when neither is released.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tasks.core.planning.shape import ModelShape
from tasks.core.planning.stages import Sizes, StageName, StageNeed
from tasks.core.recipe import Recipe


@dataclass(frozen=True)
class DiskUse:
    """Bytes on the disk while each stage runs, under both values of the recipe's `keep`."""

    all: dict[StageName, int]
    released: dict[StageName, int]

    @property
    def all_bytes(self) -> int:
        """The most when all is kept, which is the sum."""
        return max(self.all.values(), default=0)

    @property
    def released_bytes(self) -> int:
        """The most at once when inputs are freed."""
        return max(self.released.values(), default=0)


def disk_use(
    recipe: Recipe, needs: Iterable[StageNeed], shape: ModelShape, sizes: Sizes
) -> DiskUse:
    """Return what the stages, in this order, take of the disk."""
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
    """Return what can go after a stage, counting what `stage_needs` counts."""
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
