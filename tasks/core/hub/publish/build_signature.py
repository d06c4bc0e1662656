"""The signature of a published build: over exactly the published files, and beside them.

It covers the model card, too, which states licence, origin and limits. A valid signature that is at
the target already is kept: a new one would have other bytes, and a published build never changes.
The invariant: what a receipt calls signed was read back from the target and verified.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.core.errors import SignatureRefused
from tasks.core.files.digests import FileDigest
from tasks.core.hub.publish.files import Wanted
from tasks.core.signing import SIGNATURE, SigningKey, opened, signature_over


@dataclass(frozen=True)
class Signature:
    """The signature of a published build: the fingerprint of its key, and its own SHA-256."""

    signed_by: str
    sha256: str


def with_signature(
    wanted: Mapping[str, Wanted], build: str, key: SigningKey | None, present: bytes | None
) -> dict[str, Wanted]:
    """Return the files to publish with the signature over them; without a key as they are.

    present is the signature at the target, None where there is none.
    """
    if key is None:
        return dict(wanted)
    content = present
    if content is None or not _holds(content, wanted, key):
        digests = {name: file.digest.sha256 for name, file in wanted.items()}
        content = signature_over(build, digests, key)
    digest = FileDigest(len(content), hashlib.sha256(content).hexdigest())
    return {**wanted, SIGNATURE: Wanted(SIGNATURE, digest, content)}


def proven(
    arrived: bytes | None, wanted: Mapping[str, Wanted], key: SigningKey | None, *, where: str
) -> Signature | None:
    """Return the signature that arrived at the target, verified; None without a key.

    Raises SignatureRefused where it does not cover everything that is published.
    """
    if key is None:
        return None
    if arrived is None:
        raise SignatureRefused("The signature did not arrive.", where=where, found="no such file")
    _require(arrived, wanted, key, where)
    return Signature(key.fingerprint, hashlib.sha256(arrived).hexdigest())


def _holds(content: bytes, wanted: Mapping[str, Wanted], key: SigningKey) -> bool:
    try:
        _require(content, wanted, key, SIGNATURE)
    except SignatureRefused:
        return False
    return True


def _require(content: bytes, wanted: Mapping[str, Wanted], key: SigningKey, where: str) -> None:
    signed = opened(content, [key.public], where=where)
    found = {n: file.digest.sha256 for n, file in wanted.items() if n != SIGNATURE}
    signed.require(found, where=where, needed=signed.files)
