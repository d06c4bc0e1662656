"""A signature over files by their SHA-256: made, and opened again.

A file in the format of OpenSSF Model Signing (a Sigstore bundle over an in-toto statement), which
names every file that it covers. The library's own way in hashes a directory; digests that are known
are not computed again here, so the classes beneath it are used, which it does not promise to keep:
pyproject.toml pins its version, and a test holds what is made here against its command line.

The invariant: whatever the bytes of a signature are, the answer is what a trusted key has signed,
or SignatureRefused; what this machine has no room for says nothing about them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.errors import SignatureRefused
from tasks.core.files.foreign import leaves
from tasks.core.signing.keys import PublicKey, SigningKey
from tasks.core.system.errors import is_of_the_machine

NOT_COVERED = ("model.sig", "manifest.json", ".git", ".gitattributes", ".github", ".gitignore")
"""The signature itself, a directory's list of the very same files, and what the Hub and git write:
who checks a whole directory passes them over. They stand in the signature, so it says so itself."""

LONGEST_BYTES = 16 << 20
"""More than a signature ever has; a longer one is refused unread."""
_SHOWN = 4


@dataclass(frozen=True)
class Signed:
    """What a key has signed: the SHA-256 of each file, by name, under the name of the whole."""

    name: str
    files: Mapping[str, str]
    key: PublicKey

    def require(
        self, found: Mapping[str, str], *, where: object, needed: Iterable[str] = (), of: str = ""
    ) -> None:
        """Return when each file found was signed with these bytes, and all needed were found.

        Raises SignatureRefused, which names the files.
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
                next_step="Do not use it. Ask whoever signs it; what was changed on purpose is "
                "signed anew.",
            )


def signature_over(name: str, files: Mapping[str, str], key: SigningKey) -> bytes:
    """Return the signature over files by their SHA-256, under the name of the whole."""
    from model_signing import manifest
    from model_signing._hashing.hashing import Digest
    from model_signing._signing.sign_ec_key import Signer
    from model_signing._signing.signing import Payload

    class KeySigner(Signer):  # type: ignore[misc]
        """Signs with a key that is at hand already, which need not lie in a file."""

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


def opened(content: bytes, keys: Sequence[PublicKey], *, where: object) -> Signed:
    """Return what a signature covers, if one of the keys has made it; else raise SignatureRefused.

    Signatures that hash parts of files, or by another function than SHA-256, are refused, too.
    """
    if len(content) > LONGEST_BYTES:
        raise _broken(where, f"{len(content)} bytes")
    try:
        return _opened(content, keys, where)
    except SignatureRefused:
        raise
    except Exception as error:  # whatever these bytes make the library raise
        if not isinstance(error, ValueError) and is_of_the_machine(error):  # one quotes the bytes
            raise
        raise _broken(where, f"{type(error).__name__}: {str(error)[:200]}") from error


def _opened(content: bytes, keys: Sequence[PublicKey], where: object) -> Signed:
    import json

    from cryptography.exceptions import InvalidSignature
    from model_signing._signing.sign_ec_key import Verifier
    from model_signing._signing.sign_sigstore_pb import Signature
    from sigstore_models.bundle.v1 import Bundle

    class KeyVerifier(Verifier):  # type: ignore[misc]
        """Checks with a key that is at hand already."""

        def __init__(self, key: PublicKey) -> None:
            self._public_key = key.key

    bundle = Bundle.from_dict(json.loads(content))
    material = bundle.verification_material.public_key
    hint = None if material is None else material.hint
    key = next((each for each in keys if each.fingerprint == hint), None)
    if key is None:
        raise SignatureRefused(
            "The signature is not of a key that is trusted here.",
            where=where,
            expected=" or ".join(each.fingerprint for each in keys) or "a trusted key",
            found=hint or "a signature that names no key",
            next_step="Do not use it, unless whoever signs it has told of a new key: then add that "
            "to the file of public keys.",
        )
    try:
        signed: Any = KeyVerifier(key).verify(Signature(bundle))
    except InvalidSignature as error:
        raise _broken(where, f"not made by {key.fingerprint}, which it names") from error
    files = {each.identifier: each.digest for each in signed.resource_descriptors()}
    _require_plain(files, signed.serialization_type, where)
    return Signed(
        str(signed.model_name), {n: digest.digest_hex for n, digest in files.items()}, key
    )


def _require_plain(files: Mapping[str, Any], how: Mapping[str, Any], where: object) -> None:
    if how["method"] != "files" or any(d.algorithm != "sha256" for d in files.values()):
        raise SignatureRefused(
            "The signature does not cover whole files by SHA-256.",
            where=where,
            found=f"{how['method']}, {how['hash_type']}",
            next_step="`model_signing verify key` knows these. Let it be signed by files.",
        )
    outside = sorted(name for name in files if leaves(name))
    if outside:
        raise _broken(where, f"a file outside its directory: {outside[0]!r}")


def _broken(where: object, found: str) -> SignatureRefused:
    return SignatureRefused(
        "The signature is broken, or was never one.",
        where=where,
        expected="a signature in the format of OpenSSF Model Signing, as it was made",
        found=found,
        next_step="Take it from where it was published, or ask whoever signs it.",
    )
