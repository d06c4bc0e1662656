"""The fingerprint of an edit: put down in the directory of each edited model that is made.

The edit's own comes from its proof, which has loaded the model anyway. A model that was made from
an edited one by changing its weights answers otherwise: for it the fingerprint is taken anew, in a
fresh process. The invariant: a fingerprint in a directory was computed from the weights there.
"""

import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tasks.core.architecture.proof.fresh import ask_fresh_process
from tasks.core.errors import EditLost
from tasks.core.files.digests import FileDigest, digest_of
from tasks.core.files.durable import write_atomically
from tasks.core.model.config import read_config
from tasks.core.model.edit_fingerprint import FILE, EditFingerprint
from tasks.core.process.answer_file import read_answer

logger = logging.getLogger(__name__)

_TIMEOUT_S = 3600.0


class FingerprintRequest(BaseModel):
    """What the fresh process is asked to look at, and the memory that it may use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Path
    memory_bytes: int | None = None


class Fingerprint(BaseModel):
    """Its answer: none where the whole model does not fit into memory, or says no numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fingerprint: EditFingerprint | None


def put_fingerprint(model: Path, fingerprint: EditFingerprint | None) -> dict[str, FileDigest]:
    """Write the fingerprint into the model directory; return the digest of what was written.

    Without one, nothing stays there that could be taken for it, and the log says so.
    """
    path = model / FILE
    if fingerprint is None:
        path.unlink(missing_ok=True)
        logger.warning(
            "no %s is written: the whole model does not fit into memory here, or it answers with "
            "no finite numbers; the engine vllm will not serve this model",
            FILE,
        )
        return {}
    write_atomically(path, fingerprint.model_dump_json(indent=2) + "\n")
    return {FILE: digest_of(path)}


def renew_fingerprint(
    model: Path, *, memory_bytes: int | None = None, log: Path | None = None
) -> dict[str, FileDigest]:
    """Take the fingerprint of the model as it lies there, and write it, if the model is edited.

    The unedited twin has the same weights. memory_bytes and log are those of `prove_edit`. Returns
    the digest of what was written; raises what the fresh process raised.
    """
    from tasks.core.architecture.remote.configuration_kawan_usaha import KawanUsahaConfig

    if read_config(model).get("model_type") != KawanUsahaConfig.model_type:
        return {}
    request = FingerprintRequest(model=model.absolute(), memory_bytes=memory_bytes)
    module = "tasks.core.architecture.take_fingerprint"
    told = ask_fresh_process(module, request, model=model, timeout_s=_TIMEOUT_S, log=log)
    found = None
    if told is not None:
        found = read_answer(told, Fingerprint, error=EditLost).fingerprint
    return put_fingerprint(model, found)
