"""The signature of a published build: over exactly the files that are published, beside them.

It covers the model card, too, which says licence, origin and limits. A signature that stands at the
target and holds is the build's: a new one would have other bytes, and a published build never
changes. The invariant: what a receipt calls signed was read back from the target and checked there.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.core.errors import SignatureRefused
from tasks.core.files.digests import FileDigest
from tasks.core.hub.publish.files import Wanted
from tasks.core.signing import SigningKey, opened, signature_over

SIGNATURE = "model.sig"


@dataclass(frozen=True)
class Signature:
    """The signature of what was published, and the fingerprint of the key that it can be checked
    with."""

    signed_by: str
    sha256: str


def with_signature(
    wanted: Mapping[str, Wanted], build: str, key: SigningKey | None, there: bytes | None
) -> dict[str, Wanted]:
    """Return the files to publish with the signature over them, as they are without a key.

    there is the signature that stands at the target, if one does.
    """
    if key is None:
        return dict(wanted)
    content = there
    if content is None or not _holds(content, wanted, key):
        digests = {name: file.digest.sha256 for name, file in wanted.items()}
        content = signature_over(build, digests, key)
    digest = FileDigest(len(content), hashlib.sha256(content).hexdigest())
    return {**wanted, SIGNATURE: Wanted(SIGNATURE, digest, content)}


def proven(
    there: bytes | None, wanted: Mapping[str, Wanted], key: SigningKey | None, *, where: str
) -> Signature | None:
    """Return what the receipt says of the signature that stands at the target; None without a key.

    Raises SignatureRefused where it does not cover what is published, all of it.
    """
    if key is None:
        return None
    if there is None:
        raise SignatureRefused("The signature did not arrive.", where=where, found="no such file")
    _require(there, wanted, key, where)
    return Signature(key.fingerprint, hashlib.sha256(there).hexdigest())


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
