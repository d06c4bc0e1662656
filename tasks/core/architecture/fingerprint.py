"""The fingerprint of an edit: written into the directory of each edited model.

An edit's fingerprint comes from its proof, which loads the model anyway. A model made from an
edited one by changing the weights answers differently: its fingerprint is taken again, in a fresh
process. The invariant: a fingerprint in a directory was computed from the weights there.
"""

import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tasks.core.architecture.proof.fresh_process import ask_fresh_process
from tasks.core.errors import EditLost
from tasks.core.files.digests import FileDigest, digest_of
from tasks.core.files.durable import write_atomically
from tasks.core.model.config import read_config
from tasks.core.model.edit_fingerprint import FINGERPRINT_FILE, EditFingerprint
from tasks.core.process.answer_file import read_answer

logger = logging.getLogger(__name__)

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
    module = "tasks.core.architecture.take_fingerprint"
    reply = ask_fresh_process(module, request, model=model, timeout_s=_TIMEOUT_S, log=log)
    found = None
    if reply is not None:
        found = read_answer(reply, FingerprintAnswer, error=EditLost).fingerprint
    return put_fingerprint(model, found)
