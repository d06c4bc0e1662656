"""What every part of a recipe has in common."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Frozen, and refuses unknown fields, infinite numbers and NaN."""

    # What is refused may be a password.
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )
