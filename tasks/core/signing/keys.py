"""The keys of signatures: the private one from the environment, public ones from PEM files.

KAWAN_USAHA_SIGNING_KEY names the file of a private key, of mode 0600, or holds the PEM text itself,
as a Prefect Secret block puts it into a job's environment. KAWAN_USAHA_SIGNING_PASSWORD decrypts an
encrypted key. A public key is identified by its fingerprint: the SHA-256 of its PEM text as OpenSSL
writes it (`sha256sum key.pub`), which a signature also names.

The invariant: of a private key only the fingerprint of its public half is ever shown.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import SigningKeyUnusable

if TYPE_CHECKING:  # imported where it is used: most commands sign and verify nothing
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

KEY_VARIABLE = "KAWAN_USAHA_SIGNING_KEY"
PASSWORD_VARIABLE = "KAWAN_USAHA_SIGNING_PASSWORD"  # noqa: S105 - the name, not the password

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_OTHERS = 0o077
_LONGEST_BYTES = 1 << 16
_LONGEST_PATH = 200
_PEM = "-----BEGIN"
_PUBLIC = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_HOW = "docs/signing.md shows how to make a pair of keys with openssl."


@dataclass(frozen=True)
class PublicKey:
    """A key that signatures are verified with."""

    fingerprint: str
    key: "EllipticCurvePublicKey" = field(repr=False, compare=False)


@dataclass(frozen=True)
class SigningKey:
    """A key that signs. Its repr shows the public half only, and it cannot be pickled."""

    public: PublicKey
    key: "EllipticCurvePrivateKey" = field(repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the public half."""
        return self.public.fingerprint


def configured_key(environ: Mapping[str, str] | None = None) -> SigningKey | None:
    """Return the key that environ (by default this process's) names, None where it names none.

    Raises SigningKeyUnusable for a key that cannot be read, that others can read, that the password
    does not decrypt, or that is of another kind.
    """
    ask = os.environ.get if environ is None else environ.get
    text = (ask(KEY_VARIABLE) or "").strip()
    if not text:
        return None
    where, content = _content(text)
    return _private(content, where, ask(PASSWORD_VARIABLE))


def key_of(path: Path, environ: Mapping[str, str] | None = None) -> SigningKey:
    """Return the private key that belongs to the public key in path.

    Raises SigningKeyUnusable where the environment names no key or another one, and as
    `configured_key` and `public_keys` do.
    """
    expected = public_keys(path)
    key = configured_key(environ)
    if key is None:
        raise SigningKeyUnusable(
            "The recipe or command asks for a signature, and there is no key to sign with.",
            where=KEY_VARIABLE,
            expected=f"the file of the private key of {path}",
            next_step=f"`export {KEY_VARIABLE}=/path/to/key.pem`. {_HOW}",
        )
    if key.public not in expected:
        raise SigningKeyUnusable(
            "The signing key does not belong to the public key that is named.",
            where=KEY_VARIABLE,
            expected=f"{_names(expected)}, of {path}",
            found=key.fingerprint,
            next_step="Name the other private key, or the public key of this one: "
            "`openssl pkey -in key.pem -pubout`.",
        )
    return key


def public_keys(path: Path) -> tuple[PublicKey, ...]:
    """Return the public keys of a PEM file; there are several during a key rotation.

    Raises SigningKeyUnusable where none can be used.
    """
    content = _read(path)
    if b"PRIVATE KEY" in content:
        raise SigningKeyUnusable(
            "This is a private key, where a public key is expected.",
            where=path,
            next_step="Name the public key: `openssl pkey -in key.pem -pubout`. Make a new pair if "
            "this file was committed or published.",
        )
    found = tuple(_public(pem, path) for pem in _PUBLIC.findall(content))
    if not found:
        raise _wrong_kind(path, "no public key in PEM")
    return found


def fingerprint_of(key: "EllipticCurvePublicKey") -> str:
    """Return the fingerprint of a public key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def expanded(text: str, variable: str) -> Path:
    """Return the path that a variable names. Raises SigningKeyUnusable for an unknown ~user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        reason = "no such user, or one without a home"
    raise SigningKeyUnusable(
        f"{variable} names a file below an unknown home directory.",
        where=_shown(text, variable),
        found=reason,
        next_step="Write the absolute path.",
    )


def _content(text: str) -> tuple[object, bytes]:
    """Return the private key's PEM, and where it came from.

    Text that cannot be opened may be the key itself, in quotes or in base64: it is shown only where
    it looks like a path, and the system's error, which quotes it, is not chained.
    """
    if text.startswith(_PEM):
        return KEY_VARIABLE, text.encode()
    path = expanded(text, KEY_VARIABLE)
    try:
        with path.open("rb") as file:
            content, mode = file.read(_LONGEST_BYTES), os.fstat(file.fileno()).st_mode & 0o7777
    except (OSError, ValueError) as error:
        found = (isinstance(error, OSError) and error.strerror) or "no possible file name"
    else:
        _require_private(path, mode)
        return path, content
    raise SigningKeyUnusable(
        "The signing key cannot be read.",
        where=_shown(text, KEY_VARIABLE),
        expected=f"the absolute path of its file, or PEM text that begins with {_PEM}",
        found=found,
        next_step=f"Correct {KEY_VARIABLE}. {_HOW}",
    )


def _require_private(path: Path, mode: int) -> None:
    if mode & _OTHERS:
        raise SigningKeyUnusable(
            "Other users can read the key to sign with.",
            where=path,
            expected="mode 0600",
            found=f"mode {mode:04o}",
            next_step=f"`chmod 600 {path}`; make a new key if somebody may have read this one.",
        )


def _shown(text: str, variable: str) -> str:
    """Return the text if it is plainly a path, else the name of the variable that holds it."""
    is_path = text.startswith(("/", "./", "../", "~")) and len(text) < _LONGEST_PATH
    return text if is_path and text.isprintable() and "-----" not in text else variable


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_BYTES)
    except (OSError, ValueError) as error:
        found = error.strerror if isinstance(error, OSError) else str(error)
        raise SigningKeyUnusable(
            "The public key cannot be read.",
            where=path,
            found=found,
            next_step=f"Correct it. {_HOW}",
        ) from error


def _private(content: bytes, where: object, password: str | None) -> SigningKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    is_encrypted = b"ENCRYPTED" in content
    try:
        secret = password.encode() if password and is_encrypted else None
        key = load_pem_private_key(content, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # What the library says may quote the key.
        raise SigningKeyUnusable(
            "The signing key cannot be decrypted or parsed.",
            where=where,
            expected="a private key in PEM"
            + (f", whose password is in {PASSWORD_VARIABLE}" if is_encrypted else ""),
            found=None if not is_encrypted else "a password" if password else "no password",
            next_step=_HOW,
        ) from None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise _wrong_kind(where, type(key).__name__)
    return SigningKey(_of_curve(key.public_key(), where), key)


def _public(pem: bytes, where: object) -> PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _wrong_kind(where, str(error).splitlines()[0]) from error
    if not isinstance(key, EllipticCurvePublicKey):
        raise _wrong_kind(where, type(key).__name__)
    return _of_curve(key, where)


def _of_curve(key: "EllipticCurvePublicKey", where: object) -> PublicKey:
    if key.curve.name not in _CURVES:
        raise _wrong_kind(where, f"the curve {key.curve.name}")
    return PublicKey(fingerprint_of(key), key)


def _wrong_kind(where: object, found: str) -> SigningKeyUnusable:
    return SigningKeyUnusable(
        "This kind of key cannot make model signatures.",
        where=where,
        expected=f"an elliptic curve key in PEM, of {', '.join(_CURVES.values())}",
        found=found,
        next_step=_HOW,
    )


def _names(keys: tuple[PublicKey, ...]) -> str:
    return " or ".join(key.fingerprint for key in keys)
