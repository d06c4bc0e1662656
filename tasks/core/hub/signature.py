"""The signature that a model brings: a repository's or a directory's `model.sig`, held against it.

What is taken must have been signed, byte for byte, and of what was signed all must be there that a
model takes beside its weights: nobody can add a file, change one, or leave one out. Weights in a
second format, which were signed too, need not be there.

The invariant: what `SourceSignature` accepts was made by a key that the recipe or command names.
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
from tasks.core.hub.client import api, endpoint, translated
from tasks.core.hub.download.model import ResolvedModel
from tasks.core.hub.download.selection import CARD
from tasks.core.hub.download.upstream import Sources, Upstream
from tasks.core.recipe import Source
from tasks.core.signing import LONGEST_BYTES, NOT_COVERED, PublicKey, Signed, opened, public_keys
from tasks.core.weights.companions import belongs_to_model, file_names, linked_directories
from tasks.core.weights.weight_files import some

SIGNATURE = "model.sig"


@dataclass(frozen=True)
class SourceSignature:
    """A signature that a key named by the recipe has made of a source."""

    source: Source
    content: bytes
    signed: Signed

    @classmethod
    def of(cls, source: Source, commit: str | None) -> "SourceSignature | None":
        """Return the signature that a source brings at a commit; None where none is asked for.

        A few kilobytes from the Hub. Raises SignatureRefused for one that is missing, broken, or of
        another key, SigningKeyUnusable, and what the Hub's client does.
        """
        if source.signed_by is None:
            return None
        keys = public_keys(source.signed_by)
        content = _of_directory(source.directory) if source.directory else _of_hub(source, commit)
        return cls._opened(source, content, keys)

    @classmethod
    def kept(cls, source: Source, place: Path) -> "SourceSignature | None":
        """Return the signature that was kept of a source; None without one that still counts."""
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

        By their names, and by what the Hub says that large ones hold, before any is fetched.
        """
        told = {file.path: file.sha256 or self.signed.files.get(file.path) for file in model.files}
        found = {name: sha256 or "" for name, sha256 in told.items()}
        _require(self.signed, found, where=self.source)

    def require(self, files: Mapping[str, FileDigest]) -> None:
        """Raise SignatureRefused where the files that were taken are not what was signed."""
        found = {name: file.sha256 for name, file in files.items()}
        _require(self.signed, found, where=self.source)

    def keep(self, place: Path) -> None:
        """Write the signature to a file."""
        write_atomically(place, self.content)


def require_sources_signed(sources: Sources) -> None:
    """Raise what a download would end with for a signature, before anything is fetched.

    A source that is in the store already is looked at when it is taken from there. Where the Hub
    cannot be asked now, the download finds it out.
    """
    for upstream in sources:
        if upstream.source.signed_by is None:
            continue
        public_keys(upstream.source.signed_by)
        with suppress(HubError, HubOffline):
            _require_announced(upstream)


def require_signed_directory(model: Path, keys: tuple[PublicKey, ...]) -> Signed:
    """Return what the signature in a model directory covers, once each file was read and found so.

    No file may lie there that was not signed, but for hidden ones, nor a link to a directory: a
    loader would follow it to what nobody has looked at. Raises SignatureRefused.
    """
    where = model / SIGNATURE
    signed = opened(_there(_of_directory(model), keys, where), keys, where=where)
    if links := linked_directories(model):
        raise SignatureRefused(
            "A directory of the model is a link, and what it leads to was not signed.",
            where=model,
            expected="the files themselves, each of which was signed",
            found=some(links),
            next_step="Remove the link, or put the directory itself in its place; deploy a copy "
            "(`cp -rL`) where the link is yours.",
        )
    names = [name for name in file_names(model) if name not in NOT_COVERED]
    digests = digests_of([model / name for name in names])
    found = {name: digest.sha256 for name, digest in zip(names, digests, strict=True)}
    _require(signed, found, where=model)
    return signed


def source_was_signed(
    files: Mapping[str, FileDigest], kept: Path, keys: Sequence[PublicKey]
) -> bool:
    """Return whether the signature kept of a download's source is of one of the keys, over files.

    None is kept unless the source was to be signed; whatever is wrong with it, it does not count.
    """
    with suppress(FileNotFoundError, SignatureRefused):
        signed = opened(_read(kept), keys, where=kept)
        _require(signed, {name: file.sha256 for name, file in files.items()}, where=kept)
        return True
    return False


def _require_announced(upstream: Upstream) -> None:
    if upstream.is_here:
        return
    signature = SourceSignature.of(upstream.source, upstream.commit)
    if signature is not None and upstream.source.directory is None:
        signature.require_announced(upstream.model())


def _require(signed: Signed, found: Mapping[str, str], *, where: object) -> None:
    signed.require(found, where=where, needed=_needed(signed.files))


def _needed(names: Iterable[str]) -> list[str]:
    return [name for name in names if belongs_to_model(name) or name == CARD]


def _there(content: bytes | None, keys: tuple[PublicKey, ...], where: object) -> bytes:
    if content is None:
        raise SignatureRefused(
            "There is no signature, and one is asked for.",
            where=where,
            expected="a signature of " + " or ".join(key.fingerprint for key in keys),
            found="no such file",
            next_step="Ask whoever makes the model to sign it (`kawan-usaha publish MODEL PLACE "
            "--signed-by FILE`), or leave `signed_by` out if you take it as it is.",
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
                    next_step="Ask whoever makes the model to sign it.",
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
