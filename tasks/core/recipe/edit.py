"""Changes to the architecture."""

import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tasks.core.recipe.part import RecipePart

LayerSelector = int | str

_SLICE = re.compile(r"(-?\d+)?:(-?\d+)?")


class ActivationEdit(RecipePart):
    """Another activation function in the MLP of some layers."""

    layers: tuple[LayerSelector, ...] = Field(
        (-1,),
        title="Layers",
        description='Layer indices (0 is the first, -1 the last), Python slices ("0:4", "-4:") or '
        '"all".',
    )
    activation: str = Field(
        "gelu",
        title="Activation function",
        description="A name from transformers' activation registry, such as gelu, silu or relu.",
    )

    def __str__(self) -> str:
        many = len(self.layers) > 1 or isinstance(self.layers[0], str)
        chosen = ", ".join(str(layer) for layer in self.layers)
        return f"{self.activation} in {'layers' if many else 'layer'} {chosen}"

    @field_validator("layers", mode="before")
    @classmethod
    def _one_is_a_list_too(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | str) else value

    @field_validator("layers")
    @classmethod
    def _well_formed(cls, value: tuple[LayerSelector, ...]) -> tuple[LayerSelector, ...]:
        if not value:
            raise ValueError("name at least one layer")
        for selector in value:
            if isinstance(selector, str) and selector != "all" and not _SLICE.fullmatch(selector):
                raise ValueError(f'{selector!r} is neither an index, a slice "a:b" nor "all"')
        return value


class RopeScalingEdit(RecipePart):
    """A longer context through scaled rotary position embeddings (RoPE)."""

    rope_type: Literal["linear", "dynamic", "yarn"] = Field(
        "linear",
        title="Scaling method",
        description="The method of scaling, as defined by transformers.",
    )
    factor: float = Field(
        gt=1.0, title="Factor", description="How many times longer the context becomes."
    )


class Edit(RecipePart):
    """Changes to the architecture that are saved with the model."""

    activations: tuple[ActivationEdit, ...] = Field(
        (ActivationEdit(),),
        title="Activations",
        description="Activation functions to replace. The original system replaced SiLU by GELU "
        "in the MLP of the last layer.",
    )
    rope_scaling: RopeScalingEdit | None = Field(
        None,
        title="RoPE scaling",
        description="Lengthens the context. Leave empty to keep its length.",
    )

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if not self.activations and self.rope_scaling is None:
            raise ValueError("no edit is named; leave `edit` out for a model without one")
        return self

    def __str__(self) -> str:
        edits = [str(each) for each in self.activations]
        if self.rope_scaling is not None:
            edits.append(f"{self.rope_scaling.rope_type} RoPE x {self.rope_scaling.factor:g}")
        return ", ".join(edits)
