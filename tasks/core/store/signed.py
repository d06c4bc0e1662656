"""Signatures of artifacts of this machine: required before use, and added by hand.

What a run builds is signed as it is built (`Store.build`); `kept_signatures.py` says where the
signatures are.
"""

from collections.abc import Sequence

from tasks.core.errors import SignatureRefused
from tasks.core.signing import KEY_VARIABLE, PublicKey, SigningKey
from tasks.core.store.kept_signatures import KeptSignatures
from tasks.core.store.seals import Document, RemoteSignatures, Seals
from tasks.core.store.shelf import Artifact
from tasks.core.store.store import Store


def sign(store: Store, name: str, key: SigningKey) -> None:
    """Sign an artifact that is here, after reading all of it.

    Raises CorruptArtifact where it is damaged or missing.
    """
    artifact = store.there(name)
    # Before the files are read: a manifest that is swapped in later vouches for unread files.
    document = Document.of_artifact(artifact.path, artifact.manifest)
    store.require_content(artifact)
    KeptSignatures(store.root, name).add({key.fingerprint: document.signed_with(key)})


def signed_by(store: Store, name: str) -> tuple[str, ...]:
    """Return the fingerprints of the keys whose signatures of an artifact are kept here."""
    return tuple(KeptSignatures(store.root, name).all())


def require_signed(store: Store, name: str, keys: Sequence[PublicKey]) -> Artifact:
    """Return an artifact that is here, if one of the keys has signed it; no file is read.

    A signature that is not here is looked for at the remote store. Raises SignatureRefused, and
    CorruptArtifact where it is damaged or missing; a caller may hold its lock.
    """
    artifact = store.there(name)
    document = Document.of_artifact(artifact.path, artifact.manifest)
    kept = KeptSignatures(store.root, name)
    mine = kept.all()
    for key in keys:
        if key.fingerprint in mine:
            document.require(mine[key.fingerprint], [key], where=kept.directory)
            return artifact
    if store.remote is not None:
        trusted = Seals(trusted=tuple(keys))
        kept.add(RemoteSignatures(store.remote.place, trusted).require(document))
        return artifact
    raise SignatureRefused(
        "The artifact was not signed by the required key.",
        where=artifact.path,
        expected="a signature of " + " or ".join(key.fingerprint for key in keys),
        found=", ".join(mine) or "none",
        next_step=f"If you know what made it: `kawan-usaha store sign {name}`, with "
        f"{KEY_VARIABLE}; what is built with that set is signed as it is built.",
    )
