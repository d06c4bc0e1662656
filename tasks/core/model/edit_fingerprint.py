"""An edited model's answer to a fixed prompt, which differs from that of its unedited weights.

    <model directory>/kawan_usaha_fingerprint.json

Written when the model is made, it travels with the model. It shows the edit in any server that can
return the log-probabilities of a prompt, however that server implements the modules.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from tasks.core.errors import EditLost

FINGERPRINT_FILE = "kawan_usaha_fingerprint.json"


class EditFingerprint(BaseModel):
    """Natural log-probabilities of each token of a prompt after the first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt_ids: tuple[int, ...] = Field(min_length=2)
    edited: tuple[float, ...]
    unedited: tuple[float, ...] = Field(description="The same weights in the stock architecture.")
    dtype: str = Field(description="What they were computed in.")
    versions: dict[str, str]


def read_fingerprint(model: Path) -> EditFingerprint | None:
    """Return the fingerprint in a model directory, None where there is none.

    Raises EditLost for a file that is not a fingerprint.
    """
    path = model / FINGERPRINT_FILE
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
