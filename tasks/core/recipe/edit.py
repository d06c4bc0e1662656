"""Changes to the architecture, as a recipe names them."""

import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tasks.core.recipe.part import Part

LayerSelector = int | str

_SLICE = re.compile(r"(-?\d+)?:(-?\d+)?")


class ActivationEdit(Part):
    """Another activation function in the MLP of some layers."""

    layers: tuple[LayerSelector, ...] = Field(
        (-1,),
        title="Layers",
        description='Indices (0 is the first, -1 the last), slices as in Python ("0:4", "-4:") '
        'or "all".',
    )
    activation: str = Field(
        "gelu",
        title="Activation",
        description="A name of transformers' activation registry, such as gelu, silu or relu.",
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


class RopeScalingEdit(Part):
    """A longer context by scaled rotary position embeddings."""

    rope_type: Literal["linear", "dynamic", "yarn"] = Field(
        "linear", title="Kind of scaling", description="As transformers defines them."
    )
    factor: float = Field(
        gt=1.0, title="Factor", description="How many times longer the context becomes."
    )


class Edit(Part):
    """Changes to the architecture that travel with the model."""

    activations: tuple[ActivationEdit, ...] = Field(
        (ActivationEdit(),),
        title="Activations",
        description="The original exchanged SiLU for GELU in the last layer's MLP.",
    )
    rope_scaling: RopeScalingEdit | None = Field(
        None, title="RoPE scaling", description="Leave empty to keep the context length."
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
