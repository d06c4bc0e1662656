"""Whose signature an artifact of this machine carries: asked for, and given by hand.

What a run builds is signed as it is built (`Store.build`); see `seals.py` for where signatures lie.
"""

from collections.abc import Sequence

from tasks.core.errors import SignatureRefused
from tasks.core.signing import KEY_VARIABLE, PublicKey, SigningKey
from tasks.core.store.seals import Document, Kept, Seals
from tasks.core.store.shelf import Artifact
from tasks.core.store.store import Store


def sign(store: Store, name: str, key: SigningKey) -> None:
    """Sign an artifact that is here, after reading all of it.

    Raises CorruptArtifact where it is damaged or not there.
    """
    artifact = store.there(name)
    # Before it is read: a manifest that takes its place afterwards vouches for what nobody read.
    document = Document.of_artifact(artifact.path, artifact.manifest)
    store.require_content(artifact)
    Kept(store.root, name).add({key.fingerprint: document.signed_with(key)})


def signed_by(store: Store, name: str) -> tuple[str, ...]:
    """Return what the keys are known by whose signatures of an artifact are kept here."""
    return tuple(Kept(store.root, name).all())


def require_signed(store: Store, name: str, keys: Sequence[PublicKey]) -> Artifact:
    """Return an artifact that is here, if one of the keys has signed it; no file is read.

    A signature that is not here is looked for at the remote store. Raises SignatureRefused, and
    CorruptArtifact where it is damaged or not there; whoever holds its lock may ask.
    """
    artifact = store.there(name)
    document, kept = Document.of_artifact(artifact.path, artifact.manifest), Kept(store.root, name)
    mine = kept.all()
    for key in keys:
        if key.fingerprint in mine:
            document.require(mine[key.fingerprint], [key], where=kept.directory)
            return artifact
    if store.remote is not None:
        kept.add(Seals(trusted=tuple(keys)).require(store.remote.place, document))
        return artifact
    raise SignatureRefused(
        "The artifact was not signed by the key that is asked for.",
        where=artifact.path,
        expected="a signature of " + " or ".join(key.fingerprint for key in keys),
        found=", ".join(mine) or "none",
        next_step=f"If you know what made it: `kawan-usaha store sign {name}`, with "
        f"{KEY_VARIABLE}; what is built with that set is signed as it is built.",
    )
