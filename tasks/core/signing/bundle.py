"""A signature over files by their SHA-256: created and verified.

In the format of OpenSSF Model Signing: a Sigstore bundle over an in-toto statement that names every
covered file. The library's public interface hashes a directory; digests that are known are not
computed again here, so its internal classes are used: pyproject.toml pins its version, and a test
verifies these signatures with its command line.

The invariant: whatever the bytes of a signature are, the answer is what a trusted key has signed,
or SignatureRefused. A failure of this machine, such as a full memory, is neither.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.errors import SignatureRefused
from tasks.core.files.foreign import leaves
from tasks.core.signing.keys import PublicKey, SigningKey
from tasks.core.system.errors import is_of_the_machine

SIGNATURE = "model.sig"
"""The file of a signature, beside the files that it covers."""
NOT_COVERED = (SIGNATURE, "manifest.json", ".git", ".gitattributes", ".github", ".gitignore")
"""The signature itself, a directory's list of the same files, and what the Hub and git write. The
signature names them as ignored, so that a check of the whole directory skips them."""

LONGEST_BYTES = 16 << 20
"""No signature is that long; a longer file is refused unread."""
_SHOWN = 4


@dataclass(frozen=True)
class SignedFiles:
    """What a key has signed: the SHA-256 of each file by name, and the name of the whole."""

    name: str
    files: Mapping[str, str]
    key: PublicKey

    def require(
        self, found: Mapping[str, str], *, where: object, needed: Iterable[str] = (), of: str = ""
    ) -> None:
        """Raise SignatureRefused unless each file found was signed, and all needed were found.

        The error names the files that differ.
        """
        wrong = [
            *(f"{name} was not signed" for name in sorted(found.keys() - self.files.keys())),
            *(f"{name} is missing" for name in sorted({*needed} - found.keys())),
            *(
                f"{name} has other bytes than were signed"
                for name in sorted(found.keys() & self.files.keys())
                if found[name] != self.files[name]
            ),
        ]
        if wrong:
            more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            raise SignatureRefused(
                f"{of or 'The model'} is not what was signed.",
                where=where,
                expected=f"the {len(self.files)} files that {self.key.fingerprint} has signed",
                found="; ".join(wrong[:_SHOWN]) + more,
                next_step="Do not use it. Ask the signer; what was changed on purpose must be "
                "signed again.",
            )


def signature_over(name: str, files: Mapping[str, str], key: SigningKey) -> bytes:
    """Return the signature over files by their SHA-256, under the name of the whole."""
    from model_signing import manifest
    from model_signing._hashing.hashing import Digest
    from model_signing._signing.sign_ec_key import Signer
    from model_signing._signing.signing import Payload

    class KeySigner(Signer):  # type: ignore[misc]
        """Signs with a key in memory; the library's own reads a file."""

        def __init__(self) -> None:
            self._private_key = key.key

    how = {
        "method": "files",
        "hash_type": "sha256",
        "allow_symlinks": False,
        "ignore_paths": [each for each in NOT_COVERED if each not in files],
    }
    kind = manifest.SerializationType.from_args(how)
    items = [kind.new_item(n, Digest("sha256", bytes.fromhex(h))) for n, h in files.items()]
    signature: Any = KeySigner().sign(Payload(manifest.Manifest(name, items, kind)))
    return str(signature.bundle.to_json()).encode()


def opened(content: bytes, keys: Sequence[PublicKey], *, where: object) -> SignedFiles:
    """Return what a signature covers, if one of the keys made it; else raise SignatureRefused.

    Signatures over parts of files, or with a hash other than SHA-256, are refused, too.
    """
    if len(content) > LONGEST_BYTES:
        raise _broken(where, f"{len(content)} bytes")
    try:
        return _opened(content, keys, where)
    except SignatureRefused:
        raise
    except Exception as error:  # foreign bytes can make the library raise anything
        if not isinstance(error, ValueError) and is_of_the_machine(error):  # one quotes the bytes
            raise
        raise _broken(where, f"{type(error).__name__}: {str(error)[:200]}") from error


def _opened(content: bytes, keys: Sequence[PublicKey], where: object) -> SignedFiles:
    import json

    from cryptography.exceptions import InvalidSignature
    from model_signing._signing.sign_ec_key import Verifier
    from model_signing._signing.sign_sigstore_pb import Signature
    from sigstore_models.bundle.v1 import Bundle

    class KeyVerifier(Verifier):  # type: ignore[misc]
        """Verifies with a key in memory; the library's own reads a file."""

        def __init__(self, key: PublicKey) -> None:
            self._public_key = key.key

    bundle = Bundle.from_dict(json.loads(content))
    material = bundle.verification_material.public_key
    key = _trusted(None if material is None else material.hint, keys, where)
    try:
        signed: Any = KeyVerifier(key).verify(Signature(bundle))
    except InvalidSignature as error:
        raise _broken(where, f"not made by {key.fingerprint}, which it names") from error
    files = {each.identifier: each.digest for each in signed.resource_descriptors()}
    _require_plain(files, signed.serialization_type, where)
    return SignedFiles(
        str(signed.model_name), {n: digest.digest_hex for n, digest in files.items()}, key
    )


def _trusted(hint: str | None, keys: Sequence[PublicKey], where: object) -> PublicKey:
    """Return the key with the fingerprint that a signature names."""
    key = next((each for each in keys if each.fingerprint == hint), None)
    if key is None:
        raise SignatureRefused(
            "The signature was made with a key that is not trusted here.",
            where=where,
            expected=" or ".join(each.fingerprint for each in keys) or "a trusted key",
            found=hint or "a signature that names no key",
            next_step="Do not use it, unless the signer has announced a new key: then add that to "
            "the file of public keys.",
        )
    return key


def _require_plain(files: Mapping[str, Any], how: Mapping[str, Any], where: object) -> None:
    if how["method"] != "files" or any(d.algorithm != "sha256" for d in files.values()):
        raise SignatureRefused(
            "The signature does not cover whole files by SHA-256.",
            where=where,
            found=f"{how['method']}, {how['hash_type']}",
            next_step="`model_signing verify key` can check it. Ask for a signature by files.",
        )
    outside = sorted(name for name in files if leaves(name))
    if outside:
        raise _broken(where, f"a file outside its directory: {outside[0]!r}")


def _broken(where: object, found: str) -> SignatureRefused:
    return SignatureRefused(
        "The signature file is not valid.",
        where=where,
        expected="a signature in the format of OpenSSF Model Signing, as it was made",
        found=found,
        next_step="Download it again from where it was published, or ask the signer.",
    )
