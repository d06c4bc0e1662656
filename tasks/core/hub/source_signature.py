"""The signature of a source: the `model.sig` of a repository or directory, checked against it.

Every file that is taken must have been signed, byte for byte, and every signed file that belongs to
the model beside its weights must be present: nobody can add, change or leave out a file. Weights in
a second format, which were signed too, may be missing.

The invariant: what `SourceSignature` accepts was signed by a key that the recipe or command names.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_url
from huggingface_hub.errors import RemoteEntryNotFoundError

from tasks.core.errors import HubError, HubOffline, SignatureRefused
from tasks.core.files.digests import FileDigest, digests_of
from tasks.core.files.durable import write_atomically
from tasks.core.files.foreign import read_whole
from tasks.core.files.temporary import scratch_directory
from tasks.core.hub.client import api, endpoint
from tasks.core.hub.download.model import ResolvedModel
from tasks.core.hub.download.model_files import CARD
from tasks.core.hub.download.pinned import PinnedSource
from tasks.core.hub.download.sources import Sources
from tasks.core.hub.errors import translated
from tasks.core.recipe import Source
from tasks.core.signing import (
    LONGEST_BYTES,
    NOT_COVERED,
    SIGNATURE,
    PublicKey,
    SignedFiles,
    opened,
    public_keys,
)
from tasks.core.weights.companion_kinds import belongs_to_model
from tasks.core.weights.companions import file_names, linked_directories
from tasks.core.weights.weight_files import some


@dataclass(frozen=True)
class SourceSignature:
    """The signature of a source, made with a key that the recipe names."""

    source: Source
    content: bytes
    signed: SignedFiles

    @classmethod
    def of(cls, source: Source, commit: str | None) -> "SourceSignature | None":
        """Return the signature of a source at a commit; None where the recipe asks for none.

        A few kilobytes from the Hub. Raises SignatureRefused for one that is missing, damaged, or
        of another key, SigningKeyUnusable, and what the Hub's client raises.
        """
        if source.signed_by is None:
            return None
        keys = public_keys(source.signed_by)
        content = _of_directory(source.directory) if source.directory else _of_hub(source, commit)
        return cls._opened(source, content, keys)

    @classmethod
    def kept(cls, source: Source, place: Path) -> "SourceSignature | None":
        """Return the signature kept in the store for a source; None where none still verifies."""
        if source.signed_by is None:
            return None
        keys = public_keys(source.signed_by)
        with suppress(SignatureRefused, FileNotFoundError):
            return cls._opened(source, place.read_bytes(), keys)
        return None

    @classmethod
    def _opened(
        cls, source: Source, content: bytes | None, keys: tuple[PublicKey, ...]
    ) -> "SourceSignature":
        where = f"{source}, {SIGNATURE}"
        content = _there(content, keys, where)
        return cls(source, content, opened(content, keys, where=where))

    def require_announced(self, model: ResolvedModel) -> None:
        """Raise SignatureRefused where the files of a repository cannot be what was signed.

        Before any is downloaded: by the names, and by the hashes that the Hub lists for large ones.
        """
        listed = {
            file.path: file.sha256 or self.signed.files.get(file.path) for file in model.files
        }
        found = {name: sha256 or "" for name, sha256 in listed.items()}
        _require(self.signed, found, where=self.source)

    def require(self, files: Mapping[str, FileDigest]) -> None:
        """Raise SignatureRefused where the files taken are not what was signed."""
        found = {name: file.sha256 for name, file in files.items()}
        _require(self.signed, found, where=self.source)

    def keep(self, place: Path) -> None:
        """Write the signature to a file."""
        write_atomically(place, self.content)


def require_sources_signed(sources: Sources) -> None:
    """Raise what a download would raise for a signature, before anything is downloaded.

    A source that the store already has is checked when it is taken from there. Where the Hub cannot
    be asked now, the download finds out.
    """
    for source in sources:
        if source.source.signed_by is None:
            continue
        public_keys(source.source.signed_by)
        with suppress(HubError, HubOffline):
            _require_announced(source)


def require_signed_directory(model: Path, keys: tuple[PublicKey, ...]) -> SignedFiles:
    """Return what the signature in a model directory covers, with each file read and verified.

    No unsigned file may lie there, except hidden ones, nor a link to a directory: a loader would
    follow it to files that nobody has checked. Raises SignatureRefused.
    """
    where = model / SIGNATURE
    signed = opened(_there(_of_directory(model), keys, where), keys, where=where)
    if links := linked_directories(model):
        raise SignatureRefused(
            "A directory of the model is a link, and its target was not signed.",
            where=model,
            expected="the files themselves, each of which was signed",
            found=some(links),
            next_step="Remove the link, or replace it with the directory itself; if the link is "
            "yours, deploy a copy (`cp -rL`).",
        )
    names = [name for name in file_names(model) if name not in NOT_COVERED]
    digests = digests_of([model / name for name in names])
    found = {name: digest.sha256 for name, digest in zip(names, digests, strict=True)}
    _require(signed, found, where=model)
    return signed


def source_was_signed(
    files: Mapping[str, FileDigest], kept: Path, keys: Sequence[PublicKey]
) -> bool:
    """Return whether the signature kept of a download's source verifies with one of the keys.

    One is kept only where the recipe asked for it; an invalid one counts as none.
    """
    with suppress(FileNotFoundError, SignatureRefused):
        signed = opened(_read(kept), keys, where=kept)
        _require(signed, {name: file.sha256 for name, file in files.items()}, where=kept)
        return True
    return False


def _require_announced(source: PinnedSource) -> None:
    if source.is_here:
        return
    signature = SourceSignature.of(source.source, source.commit)
    if signature is not None and source.source.directory is None:
        signature.require_announced(source.model())


def _require(signed: SignedFiles, found: Mapping[str, str], *, where: object) -> None:
    signed.require(found, where=where, needed=_needed(signed.files))


def _needed(names: Iterable[str]) -> list[str]:
    return [name for name in names if belongs_to_model(name) or name == CARD]


def _there(content: bytes | None, keys: tuple[PublicKey, ...], where: object) -> bytes:
    if content is None:
        raise SignatureRefused(
            "There is no signature, and one is required.",
            where=where,
            expected="a signature of " + " or ".join(key.fingerprint for key in keys),
            found="no such file",
            next_step="Ask the model's publisher to sign it (`kawan-usaha publish MODEL PLACE "
            "--signed-by FILE`), or leave `signed_by` out to accept it unsigned.",
        )
    return content


def _of_hub(source: Source, commit: str | None) -> bytes | None:
    repo = str(source.repo)
    url = hf_hub_url(repo, SIGNATURE, revision=commit, endpoint=endpoint())
    with scratch_directory("hub") as cache, translated(repo, commit):
        try:
            size_bytes = api().get_hf_file_metadata(url=url).size or 0
            if size_bytes > LONGEST_BYTES:
                raise SignatureRefused(
                    f"{SIGNATURE} is too large.",
                    where=url,
                    expected=f"at most {LONGEST_BYTES} bytes",
                    found=f"{size_bytes} bytes",
                    next_step="Ask the model's publisher to sign it.",
                )
            path = api().hf_hub_download(repo, SIGNATURE, revision=commit, cache_dir=cache)
        except RemoteEntryNotFoundError:
            return None
        return _read(Path(path))


def _of_directory(model: Path) -> bytes | None:
    try:
        return _read(model / SIGNATURE)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _read(path: Path) -> bytes:
    return read_whole(path, error=SignatureRefused, max_bytes=LONGEST_BYTES)
