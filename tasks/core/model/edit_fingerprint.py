"""How an edited model answers a fixed prompt: what tells it from the same weights without the edit.

    <model directory>/kawan_usaha_fingerprint.json

Written when the model is made, it travels with it. Any server that can say the log-probabilities of
a prompt can so be held to the edit, whatever it made of the modules.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from tasks.core.errors import EditLost

FILE = "kawan_usaha_fingerprint.json"


class EditFingerprint(BaseModel):
    """Natural log-probabilities of each token of a prompt but the first, given those before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt_ids: tuple[int, ...] = Field(min_length=2)
    edited: tuple[float, ...]
    unedited: tuple[float, ...] = Field(description="The same weights in the stock architecture.")
    dtype: str = Field(description="What they were computed in.")
    versions: dict[str, str]


def read_fingerprint(model: Path) -> EditFingerprint | None:
    """Return the fingerprint that lies in a model directory; None where there is none.

    Raises EditLost for a file that is none.
    """
    path = model / FILE
    if not path.is_file():
        return None
    try:
        return EditFingerprint.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise EditLost(
            "The fingerprint of the edit cannot be read.",
            where=path,
            found=error,
            next_step="Download the model again, or edit it again (`kawan-usaha edit`).",
        ) from error
