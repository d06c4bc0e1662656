"""The fingerprint of an edited model, taken again in a fresh process once its weights changed.

An edit's first fingerprint comes from its proof, which loads the model anyway. A model made from an
edited one by changing the weights answers differently.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tasks.core.architecture.proof.fresh_process import ask_fresh_process
from tasks.core.errors import EditLost
from tasks.core.files.digests import FileDigest
from tasks.core.model.config import read_config
from tasks.core.model.edit_fingerprint import EditFingerprint, put_fingerprint
from tasks.core.process.answer_file import read_answer

_TIMEOUT_S = 3600.0


class FingerprintRequest(BaseModel):
    """The model to take a fingerprint of, and the memory that the process may use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Path
    memory_bytes: int | None = None


class FingerprintAnswer(BaseModel):
    """The fingerprint; None where the model does not fit into memory or gives no finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fingerprint: EditFingerprint | None


def renew_fingerprint(
    model: Path, *, memory_bytes: int | None = None, log: Path | None = None
) -> dict[str, FileDigest]:
    """Take the fingerprint of an edited model from its present weights and write it.

    Does nothing for a model that is not edited. memory_bytes and log are those of `prove_edit`.
    Returns the digest of the file; raises what the fresh process raised.
    """
    # It loads transformers, and the stages that import this module must not.
    from tasks.core.architecture.remote.configuration_kawan_usaha import KawanUsahaConfig

    if read_config(model).get("model_type") != KawanUsahaConfig.model_type:
        return {}
    request = FingerprintRequest(model=model.absolute(), memory_bytes=memory_bytes)
    module = "tasks.core.architecture.take_edit_fingerprint"
    reply = ask_fresh_process(module, request, model=model, timeout_s=_TIMEOUT_S, log=log)
    found = None
    if reply is not None:
        found = read_answer(reply, FingerprintAnswer, error=EditLost).fingerprint
    return put_fingerprint(model, found)
