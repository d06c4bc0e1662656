"""Signatures with a key pair of one's own: they prove without a network who made these bytes.

The format is OpenSSF Model Signing, so that `model_signing verify key` accepts what is signed here.
"""

from tasks.core.signing.bundle import (
    LONGEST_BYTES,
    NOT_COVERED,
    SIGNATURE,
    SignedFiles,
    opened,
    signature_over,
)
from tasks.core.signing.keys import (
    KEY_VARIABLE,
    PublicKey,
    SigningKey,
    configured_key,
    expanded,
    key_of,
    public_keys,
)

__all__ = [
    "KEY_VARIABLE",
    "LONGEST_BYTES",
    "NOT_COVERED",
    "SIGNATURE",
    "PublicKey",
    "SignedFiles",
    "SigningKey",
    "configured_key",
    "expanded",
    "key_of",
    "opened",
    "public_keys",
    "signature_over",
]
