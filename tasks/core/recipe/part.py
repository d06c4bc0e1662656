"""The base class of every part of a recipe."""

from pydantic import BaseModel, ConfigDict


class RecipePart(BaseModel):
    """A frozen model that refuses unknown fields, infinite numbers and NaN."""

    # A refused value may be a password, so errors do not quote it.
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )
