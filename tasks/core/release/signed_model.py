"""Verifies that a model on this machine is what a key has signed: a directory, or an artifact.

An artifact has the signature of the machine that made it; a downloaded one also that of its source.
Checked before a command serves a model.

The invariant: every byte of an accepted model was read, and was signed with one of the keys.
"""

from collections.abc import Sequence
from pathlib import Path

from tasks.core.hub.source_signature import require_signed_directory, source_was_signed
from tasks.core.signing import PublicKey
from tasks.core.store import Store
from tasks.core.store.kept_signatures import KeptSignatures
from tasks.core.store.signed import require_signed


def require_signed_model(model: Path, keys: Sequence[PublicKey], store: Store) -> None:
    """Check that each byte of a directory, or of an artifact of the store, was signed.

    Raises SignatureRefused, and CorruptArtifact as `Store.require_content`.
    """
    place = model.resolve()  # a link may have the name of another artifact
    if place.parent != store.root.resolve():
        require_signed_directory(place, tuple(keys))
        return
    artifact = store.there(place.name)
    of_source = KeptSignatures(store.root, place.name).of_source
    if not source_was_signed(artifact.manifest.files, of_source, keys):
        artifact = require_signed(store, place.name, keys)
    store.require_content(artifact)
