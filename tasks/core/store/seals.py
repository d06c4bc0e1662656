"""Signatures of what machines share: made where it was built, checked before it is used.

    <url>/signatures/<sha256>/<fingerprint>.sig            of a manifest or a release
    <url>/staging/<stage>-<key>/signatures/<sha256>/...    of unfinished work, removed with it

With a key (KAWAN_USAHA_SIGNING_KEY) this machine signs what it builds: the bytes of the manifest,
and through it every file. With trusted keys (KAWAN_USAHA_TRUSTED_KEYS, a PEM file of public keys)
nothing is used from the remote store unless one of them has signed it. A signature is stored apart
from what it covers, so that signing changes neither an artifact nor its key
(`kept_signatures.py` keeps those of this machine). Remote ones are named by the bytes that they
cover, so that no writer can spoil another's.

The invariant: a machine signs by itself only what it has built, never what came from elsewhere.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import CorruptArtifact, SignatureRefused
from tasks.core.signing import (
    KEY_VARIABLE,
    PublicKey,
    SigningKey,
    configured_key,
    expanded,
    opened,
    public_keys,
    signature_over,
)
from tasks.core.store.kept_signatures import SUFFIX
from tasks.core.store.manifest import MANIFEST, Manifest, parse_manifest

if TYPE_CHECKING:
    from tasks.core.storage.directory import StorageDirectory

TRUSTED_VARIABLE = "KAWAN_USAHA_TRUSTED_KEYS"
SIGNATURES = "signatures"


@dataclass(frozen=True)
class Document:
    """A small file that vouches for others: what is signed of an artifact, a state or a release.

    name says what it belongs to and kind what it is, so that a signature over one document is none
    over another. folder is the place at the remote store that its signatures are stored in.
    """

    name: str
    kind: str
    content: bytes
    files: Mapping[str, str]
    folder: str = ""

    @classmethod
    def of_manifest(cls, manifest: Manifest, content: bytes) -> "Document":
        """Return the manifest of an artifact, whose bytes are content."""
        files = {name: file.sha256 for name, file in manifest.files.items()}
        return cls(str(manifest.stage_key), MANIFEST, content, files)

    @classmethod
    def of_artifact(cls, directory: Path, manifest: Manifest) -> "Document":
        """Return the manifest of an artifact of this machine.

        Raises CorruptArtifact if the directory holds another artifact by now, which must not be
        judged by what was found of this one.
        """
        content = (directory / MANIFEST).read_bytes()
        found = parse_manifest(content, where=directory / MANIFEST)
        if found.content_digest != manifest.content_digest:
            raise CorruptArtifact(
                "An artifact was rebuilt while it was being checked.",
                where=directory,
                next_step="Run again.",
            )
        return cls.of_manifest(found, content)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the document's bytes."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def signatures(self) -> str:
        """The folder of its signatures at a remote store."""
        return "/".join(part for part in (self.folder, SIGNATURES, self.sha256) if part)

    def signature_by(self, fingerprint: str) -> str:
        """Return the path of the signature by one key at a remote store."""
        return f"{self.signatures}/{fingerprint}{SUFFIX}"

    def signed_with(self, key: SigningKey) -> bytes:
        """Return the signature over the document and the files that it names."""
        return signature_over(self.name, self._covered, key)

    def require(self, signature: bytes, keys: Sequence[PublicKey], *, where: object) -> None:
        """Raise SignatureRefused unless one of the keys has signed this very document."""
        signed = opened(signature, keys, where=where)
        signed.require(self._covered, where=where, needed=signed.files, of=self.name)
        if signed.name != self.name:
            raise SignatureRefused(
                "The signature belongs to something else.",
                where=where,
                expected=self.name,
                found=signed.name,
            )

    @property
    def _covered(self) -> dict[str, str]:
        return {**self.files, self.kind: self.sha256}


@dataclass(frozen=True)
class Seals:
    """The key that this machine signs with, if any, and those that it trusts (None: everybody)."""

    key: SigningKey | None = None
    trusted: tuple[PublicKey, ...] | None = None

    @property
    def trusts_itself(self) -> bool:
        """Whether a machine with the same trusted keys would accept what this one makes."""
        return self.trusted is None or (self.key is not None and self.key.public in self.trusted)


@dataclass(frozen=True)
class RemoteSignatures:
    """The signatures at a remote store, as a machine with these seals makes and checks them.

    Every method raises as `StorageDirectory` does.
    """

    place: "StorageDirectory"
    seals: Seals

    def sign(self, document: Document) -> None:
        """Store this machine's signature of a document there, if it has a key; call it first."""
        if (key := self.seals.key) is not None:
            self.add(document, {key.fingerprint: document.signed_with(key)})

    def is_signed(self, document: Document) -> bool:
        """Return whether `sign` has nothing left to do."""
        key = self.seals.key
        return key is None or self.place.find(document.signature_by(key.fingerprint)) is not None

    def add(self, document: Document, signatures: Mapping[str, bytes]) -> None:
        """Store signatures that exist already, by the fingerprints of their keys."""
        for fingerprint, signature in signatures.items():
            path = document.signature_by(fingerprint)
            if self.place.find(path) != signature:
                self.place.replace(path, signature)
            self.place.sync_names(document.signatures)

    def require(self, document: Document) -> dict[str, bytes]:
        """Return the signature by which a document is trusted, none where everybody is.

        Raises SignatureRefused for a document that no trusted key has signed.
        """
        refused: SignatureRefused | None = None
        for key in self.seals.trusted or ():
            path = document.signature_by(key.fingerprint)
            signature = self.place.find(path)
            if signature is None:
                continue
            try:
                document.require(signature, [key], where=f"{self.place.url}/{path}")
            except SignatureRefused as error:
                refused = error
            else:
                return {key.fingerprint: signature}
        if self.seals.trusted is None:
            return {}
        raise refused or self._not_signed(document, self.seals.trusted)

    def _not_signed(self, document: Document, trusted: Sequence[PublicKey]) -> SignatureRefused:
        return SignatureRefused(
            f"{document.name} at the remote store was not signed by a key that is trusted here.",
            where=f"{self.place.url}/{document.signatures}",
            expected="a signature of " + " or ".join(key.fingerprint for key in trusted),
            found="none",
            next_step="On the machine that made it: `kawan-usaha store sign` and then `kawan-usaha "
            f"store push`, with {KEY_VARIABLE}. If none of your machines made it, find out who can "
            "write there, and remove its manifest: the next run then builds it here.",
        )


def configured_seals() -> Seals:
    """Return the keys that the environment names. Raises SigningKeyUnusable."""
    trusted = os.environ.get(TRUSTED_VARIABLE, "").strip()
    keys = public_keys(expanded(trusted, TRUSTED_VARIABLE)) if trusted else None
    return Seals(configured_key(), keys)
