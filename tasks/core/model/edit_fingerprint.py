"""An edited model's answer to a fixed prompt, which differs from that of its unedited weights.

    <model directory>/kawan_usaha_fingerprint.json

Written when the model is made, it travels with the model. It shows the edit in any server that can
return the log-probabilities of a prompt, however that server implements the modules. The invariant:
a fingerprint in a directory was computed from the weights there.
"""

import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from tasks.core.errors import EditLost
from tasks.core.files.digests import FileDigest, digest_of
from tasks.core.files.durable import write_atomically

logger = logging.getLogger(__name__)

FINGERPRINT_FILE = "kawan_usaha_fingerprint.json"


class EditFingerprint(BaseModel):
    """Natural log-probabilities of each token of a prompt after the first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt_ids: tuple[int, ...] = Field(min_length=2)
    edited: tuple[float, ...]
    unedited: tuple[float, ...] = Field(description="The same weights in the stock architecture.")
    dtype: str = Field(description="What they were computed in.")
    versions: dict[str, str]


def put_fingerprint(model: Path, fingerprint: EditFingerprint | None) -> dict[str, FileDigest]:
    """Write the fingerprint into the model directory; return the digest of the file.

    Without a fingerprint an older file is removed, and the log says so.
    """
    path = model / FINGERPRINT_FILE
    if fingerprint is None:
        path.unlink(missing_ok=True)
        logger.warning(
            "no %s is written: the whole model does not fit into memory here, or its answers are "
            "not finite numbers; the vllm engine will not serve this model",
            FINGERPRINT_FILE,
        )
        return {}
    write_atomically(path, fingerprint.model_dump_json(indent=2) + "\n")
    return {FINGERPRINT_FILE: digest_of(path)}


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
