"""The files of a build that are to be published, and their comparison with what a Hub lists.

Invariant: bytes that are not those of the manifest never pass for the build's.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub.hf_api import RepoFile

from tasks.core.errors import FileChanged, KawanUsahaError, NotAModel
from tasks.core.files.digests import FileDigest, sha256_of
from tasks.core.files.foreign import read_whole
from tasks.core.hub.card.model_class import require_loadable
from tasks.core.hub.download.model_files import CARD
from tasks.core.hub.publish.allow_list import choose_to_publish, why_left_out
from tasks.core.hub.publish.secrets import require_no_secret

OWNED_BY_THE_HUB = ".gitattributes"
"""Written by the Hub itself; it is neither sent nor deleted."""


@dataclass(frozen=True)
class Wanted:
    """One file of the build: its name, what it must hash to, and where its bytes are."""

    name: str
    digest: FileDigest
    source: Path | bytes

    def require_unchanged(self) -> None:
        """Raise FileChanged unless the bytes at the source are the build's."""
        if isinstance(self.source, bytes):
            return
        size = self.source.stat().st_size if self.source.is_file() else None
        found = sha256_of(self.source) if size == self.digest.size_bytes else None
        if found != self.digest.sha256:
            raise self.changed(found or f"{size} bytes")

    def changed(self, found: str) -> FileChanged:
        """Return the error for bytes that are no longer the build's."""
        return FileChanged(
            f"{self.name} is not the file that was built, or was changed while it was sent.",
            where=self.source if isinstance(self.source, Path) else self.name,
            expected=f"{self.digest.size_bytes} bytes of SHA-256 {self.digest.sha256}",
            found=found,
            next_step="Stop what writes to the model's directory, run `kawan-usaha store verify`, "
            "and publish again.",
        )

    def is_same_as(self, remote: RepoFile) -> bool:
        """Return whether the Hub lists these bytes.

        Large files are listed with their SHA-256; small ones only with git's id, which is then
        computed from the local bytes.
        """
        if remote.size != self.digest.size_bytes:
            return False
        if remote.lfs is not None:
            return remote.lfs.sha256 == self.digest.sha256
        return remote.blob_id == self._git_blob_id()

    def _git_blob_id(self) -> str:
        self.require_unchanged()
        data = self.source if isinstance(self.source, bytes) else read_whole(self.source)
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def wanted_files(model: Path, files: Mapping[str, FileDigest], card: str) -> dict[str, Wanted]:
    """Return every file to publish by name: those of the allow list, and the card.

    Raises NotAModel when they are no model or a name leads out of the directory, SecretFound for a
    file with a secret in it, FileChanged when a file is missing or has another size.
    """
    for name in files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise NotAModel("A file lies outside the model directory.", where=name)
    wanted = {}
    for name in choose_to_publish(model, files, card):
        digest = files[name]
        file = Wanted(name, FileDigest(digest.size_bytes, digest.sha256), model / name)
        size = (model / name).stat().st_size if (model / name).is_file() else None
        if size != digest.size_bytes:
            raise file.changed("no such file" if size is None else f"{size} bytes")
        wanted[name] = file
    text = card.encode()
    require_no_secret(text, where=CARD)
    card_digest = FileDigest(len(text), hashlib.sha256(text).hexdigest())
    return {**wanted, CARD: Wanted(CARD, card_digest, text)}


def require_loads(model: Path, wanted: Mapping[str, Wanted]) -> None:
    """Check before anything is sent that the build is a complete model that transformers can load.

    Raises FileChanged when a file is no longer the build's, else what `require_loadable` raises.
    """
    try:
        require_loadable(model)
    except KawanUsahaError:
        for file in wanted.values():
            file.require_unchanged()
        raise


def unpublished(files: Mapping[str, FileDigest], wanted: Mapping[str, Wanted]) -> dict[str, str]:
    """Return the files of the manifest that are not published, each with the reason."""
    names = sorted(name for name in files if name == CARD or name not in wanted)
    return {name: why_left_out(name) for name in names}


def build_names(tree: Mapping[str, RepoFile]) -> set[str]:
    """Return the names in a Hub's tree that belong to a build."""
    return tree.keys() - {OWNED_BY_THE_HUB}
