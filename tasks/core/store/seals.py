"""Signatures of what machines share: made where it was built, checked before it is taken.

    <home>/store/.signed/<stage>-<key>/<fingerprint>.sig   of an artifact, by each key that signed
    <url>/signatures/<sha256>/<fingerprint>.sig            of a manifest or a release
    <url>/staging/<stage>-<key>/signatures/<sha256>/...    of unfinished work, removed with it

With a key (KAWAN_USAHA_SIGNING_KEY) this machine signs what it builds: the bytes of the manifest,
and through it every file. With trusted keys (KAWAN_USAHA_TRUSTED_KEYS, a PEM file of public keys)
nothing of the remote store is taken that none of them has signed. A signature lies apart from what
it covers: signing changes neither an artifact nor its key. Remote ones are named by the very bytes
that they cover, so that no writer can spoil another's.

The invariant: only what was built here is signed here by itself; what came from elsewhere is not.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import CorruptArtifact, SignatureRefused
from tasks.core.files.durable import make_directory, write_atomically
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
from tasks.core.store.manifest import MANIFEST, Manifest, parse_manifest

if TYPE_CHECKING:
    from tasks.core.storage.directory import StorageDirectory

TRUSTED_VARIABLE = "KAWAN_USAHA_TRUSTED_KEYS"
SIGNED = ".signed"
SIGNATURES = "signatures"
SOURCE = "model.sig"
"""In the place of a download: the signature that its source brings of itself."""
_SUFFIX = ".sig"
_FINGERPRINT_DIGITS = 64


@dataclass(frozen=True)
class Document:
    """A small file that vouches for others: what is signed of an artifact, a state, a release.

    name is what it belongs to and kind what it is, so that no signature passes for another's.
    """

    name: str
    kind: str
    content: bytes
    files: Mapping[str, str]

    @classmethod
    def of_manifest(cls, manifest: Manifest, content: bytes) -> "Document":
        """Return the manifest of an artifact, by its very bytes."""
        files = {name: file.sha256 for name, file in manifest.files.items()}
        return cls(str(manifest.stage_key), MANIFEST, content, files)

    @classmethod
    def of_artifact(cls, directory: Path, manifest: Manifest) -> "Document":
        """Return the manifest of an artifact of this machine.

        Raises CorruptArtifact where that of another one stands there now: what is found of the
        artifact would be said of that.
        """
        content = (directory / MANIFEST).read_bytes()
        found = parse_manifest(content, where=directory / MANIFEST)
        if found.content_digest != manifest.content_digest:
            raise CorruptArtifact(
                "An artifact was made anew while it was looked at.",
                where=directory,
                next_step="Run again.",
            )
        return cls.of_manifest(found, content)

    @property
    def sha256(self) -> str:
        """What the document's bytes are known by."""
        return hashlib.sha256(self.content).hexdigest()

    def signed_with(self, key: SigningKey) -> bytes:
        """Return the signature over the document, and over the files that it names."""
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
    """What this machine signs with, and whom it trusts; None for everybody, as without any."""

    key: SigningKey | None = None
    trusted: tuple[PublicKey, ...] | None = None

    @property
    def trusts_itself(self) -> bool:
        """Whether a machine with the same trusted keys would take what this one makes."""
        return self.trusted is None or (self.key is not None and self.key.public in self.trusted)

    def put(self, place: "StorageDirectory", document: Document, folder: str = "") -> None:
        """Bring this machine's signature of a document to a remote store, before the document."""
        if self.key is not None:
            self.share(
                place, document, {self.key.fingerprint: document.signed_with(self.key)}, folder
            )

    def has_signed(self, place: "StorageDirectory", document: Document) -> bool:
        """Return whether this machine's signature of a document is there; without a key, it is."""
        return self.key is None or (
            place.find(_path("", document, self.key.fingerprint)) is not None
        )

    def share(
        self,
        place: "StorageDirectory",
        document: Document,
        signatures: Mapping[str, bytes],
        folder: str = "",
    ) -> None:
        """Bring signatures that there are already to a remote store, also for a broken one."""
        for fingerprint, signature in signatures.items():
            path = _path(folder, document, fingerprint)
            if place.find(path) != signature:
                place.replace(path, signature)
            place.sync_names(_folder(folder, document))

    def require(
        self, place: "StorageDirectory", document: Document, folder: str = ""
    ) -> dict[str, bytes]:
        """Return the signatures at a remote store that make a document one to be taken.

        None are needed where everybody is trusted. Raises SignatureRefused, and as
        `StorageDirectory` does.
        """
        if self.trusted is None:
            return {}
        refused: SignatureRefused | None = None
        for key in self.trusted:
            path = _path(folder, document, key.fingerprint)
            signature = place.find(path)
            if signature is None:
                continue
            try:
                document.require(signature, [key], where=f"{place.url}/{path}")
            except SignatureRefused as error:
                refused = error
            else:
                return {key.fingerprint: signature}
        raise refused or SignatureRefused(
            f"{document.name} at the remote store was not signed by a key that is trusted here.",
            where=f"{place.url}/{_folder(folder, document)}",
            expected="a signature of " + " or ".join(key.fingerprint for key in self.trusted),
            found="none",
            next_step="On the machine that made it: `kawan-usaha store sign` and then `kawan-usaha "
            f"store push`, with {KEY_VARIABLE}. If nobody has made it, see who can write there, "
            "and remove its manifest: then it is made here.",
        )


def configured_seals() -> Seals:
    """Return what the environment names. Raises SigningKeyUnusable."""
    trusted = os.environ.get(TRUSTED_VARIABLE, "").strip()
    keys = public_keys(expanded(trusted, TRUSTED_VARIABLE)) if trusted else None
    return Seals(configured_key(), keys)


@dataclass(frozen=True)
class Kept:
    """The signatures of one artifact, kept beside the store that is at root."""

    root: Path
    name: str

    @property
    def directory(self) -> Path:
        """Where they lie."""
        return self.root / SIGNED / self.name

    @property
    def of_source(self) -> Path:
        """Where the signature lies that a download's source brings of itself."""
        return self.directory / SOURCE

    def add(self, signatures: Mapping[str, bytes]) -> None:
        """Keep these, by what their keys are known by."""
        for fingerprint, signature in signatures.items():
            make_directory(self.directory)
            write_atomically(self.directory / f"{fingerprint}{_SUFFIX}", signature)

    def all(self) -> dict[str, bytes]:
        """Return those that are kept."""
        return dict(self._read())

    def forget(self) -> None:
        """Remove them: they are of an artifact that is made anew."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _read(self) -> Iterator[tuple[str, bytes]]:
        with suppress(FileNotFoundError):
            for path in sorted(self.directory.iterdir()):
                if path.suffix == _SUFFIX and len(path.stem) == _FINGERPRINT_DIGITS:
                    yield path.stem, path.read_bytes()


def _folder(folder: str, document: Document) -> str:
    return "/".join(part for part in (folder, SIGNATURES, document.sha256) if part)


def _path(folder: str, document: Document, fingerprint: str) -> str:
    return f"{_folder(folder, document)}/{fingerprint}{_SUFFIX}"
