"""A source of the recipe as an artifact of the store: from the Hub at a commit, or a directory.

The key holds the commit, never the branch: a scheduled run asks the Hub one question, and where
the branch has not moved it downloads nothing.
"""

from collections.abc import Sequence
from pathlib import Path

from tasks.core.errors import UntrustedCode
from tasks.core.files.disk_space import require_disk_space
from tasks.core.files.durable import make_directory
from tasks.core.hub.download.incoming import IncomingSource
from tasks.core.hub.download.local_copy import copy_directory
from tasks.core.hub.download.model import download_model, missing_bytes
from tasks.core.hub.download.pinned import STAGE, VERSION, PinnedSource
from tasks.core.hub.revisions import is_commit
from tasks.core.hub.source_signature import SourceSignature
from tasks.core.keys import stage_key
from tasks.core.model.code import foreign_code
from tasks.core.progress import OnProgress, silent
from tasks.core.store import Artifact, Built, Staging, Store
from tasks.core.store.kept_signatures import KeptSignatures
from tasks.core.store.manifest import freed_place
from tasks.core.weights.model_check import check_model
from tasks.core.weights.tokenizer_check import require_tokenizer
from tasks.core.weights.weight_files import some


def download_source(
    pinned: PinnedSource,
    store: Store,
    on_progress: OnProgress = silent,
    *,
    beside: Sequence[PinnedSource] = (),
    incoming: IncomingSource | None = None,
) -> Built:
    """Return the artifact that holds the source's model.

    beside are sources that are downloaded at the same time: there must be room for what they still
    miss, too. incoming hears of each byte that arrives. Raises what `PinnedSource`,
    `download_model`, `copy_directory` and `check_model` raise, UntrustedCode for code that nobody
    has agreed to run, and what `SourceSignature` raises where the source names a key.
    """
    incoming, params = incoming or IncomingSource(pinned), pinned.params
    kept = KeptSignatures(store.root, str(pinned.key)).of_source
    signature = SourceSignature.kept(pinned.source, kept) or SourceSignature.of(
        pinned.source, pinned.commit
    )

    def write(staging: Staging) -> None:
        _require_room(pinned, beside, store, staging)
        if signature is not None and pinned.source.directory is None:
            signature.require_announced(pinned.model())
        _write(incoming, staging, store.root / str(pinned.key), on_progress)
        if signature is not None:
            signature.require(staging.known)

    built = store.build(stage_key(STAGE, VERSION, params), write, params=params)
    if signature is not None:  # checked in each run, as the agreement to run code is
        signature.require(built.artifact.manifest.files)
        make_directory(kept.parent)
        signature.keep(kept)
    _require_agreed(built.artifact, pinned)
    incoming.settle(built.artifact)
    return built


def _require_agreed(model: Artifact, pinned: PinnedSource) -> None:
    """Raise UntrustedCode for a repository's own code, unless the recipe names its commit.

    Checked in each run: an earlier download may have been made for a recipe that names the commit.
    Checked even where the files are not here: a stage that reads them brings them back without
    asking. The code of a directory is the user's own already.
    """
    source = pinned.source
    if source.directory is not None or is_commit(source.revision):
        return
    here = model.path if model.path.is_dir() else freed_place(model.path)
    files = {name: file.sha256 for name, file in model.manifest.files.items()}
    if code := foreign_code(here, files):
        raise UntrustedCode(
            "The model brings code of its own, and nobody has agreed to run it: "
            f"{source.revision} may be other code tomorrow.",
            where=source,
            expected="a model without code of its own, or its commit as revision",
            found=some(code),
            next_step=f"Read it, in {here}; then write `revision: {pinned.commit}` in the "
            f"recipe, or {source.repo}@{pinned.commit} in a command.",
        )


def _write(
    incoming: IncomingSource, staging: Staging, becomes: Path, on_progress: OnProgress
) -> None:
    pinned = incoming.pinned
    directory = pinned.source.directory
    if directory is not None:
        staging.record(copy_directory(directory, staging.path, on_progress).files)
        staging.note(directory=directory.name)
        return
    incoming.expect(staging.path, becomes)
    model = pinned.model()
    written = download_model(model, staging.path, on_progress=on_progress, listener=incoming)
    staging.record(written.files)
    check_model(staging.path)
    require_tokenizer(staging.path)
    staging.note(revision=pinned.source.revision)


def _require_room(
    pinned: PinnedSource, beside: Sequence[PinnedSource], store: Store, staging: Staging
) -> None:
    here = _missing_bytes(pinned, staging.path)
    others = (_missing_bytes(each, _place_of(each, store)) for each in beside)
    require_disk_space(staging.path, here + sum(others))


def _place_of(pinned: PinnedSource, store: Store) -> Path | None:
    """Return where a source is being written, None where it is complete or was freed after use."""
    name = str(pinned.key)
    if (store.root / name).exists() or store.freed(name) is not None:
        return None
    return store.root / ".staging" / name


def _missing_bytes(pinned: PinnedSource, place: Path | None) -> int:
    if place is None:
        return 0
    if pinned.source.directory is not None:
        return pinned.size_bytes()
    return missing_bytes(pinned.model(), place)
