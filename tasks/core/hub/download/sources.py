"""A source of the recipe as an artifact of the store: from the Hub at a commit, or a directory.

The key holds the commit, never the branch: a scheduled run asks the Hub one question, and when
nothing is new there it loads nothing.
"""

from collections.abc import Sequence
from pathlib import Path

from tasks.core.errors import UntrustedCode
from tasks.core.files.disk_space import require_disk_space
from tasks.core.files.durable import make_directory
from tasks.core.hub.download.incoming import Coming
from tasks.core.hub.download.local_copy import copy_directory
from tasks.core.hub.download.model import download, missing_bytes
from tasks.core.hub.download.upstream import STAGE, VERSION, Upstream
from tasks.core.hub.revisions import is_commit
from tasks.core.hub.signature import SourceSignature
from tasks.core.keys import stage_key
from tasks.core.model.code import foreign_code
from tasks.core.progress import OnProgress, silent
from tasks.core.store import Artifact, Built, Staging, Store
from tasks.core.store.kept_signatures import KeptSignatures
from tasks.core.store.manifest import freed_place
from tasks.core.weights.model_check import check_model
from tasks.core.weights.tokenizer_check import require_tokenizer
from tasks.core.weights.weight_files import some


def fetch(
    upstream: Upstream,
    store: Store,
    on_progress: OnProgress = silent,
    *,
    beside: Sequence[Upstream] = (),
    coming: Coming | None = None,
) -> Built:
    """Return the artifact that holds the source's model.

    beside are sources that are fetched at the same time: there must be room for what is missing of
    them, too. coming is told what there is while it is fetched. Raises what `Upstream`,
    `download`, `copy_directory` and `check_model` raise, UntrustedCode for code that nobody has
    agreed to run, and what `SourceSignature` raises where the source names a key.
    """
    coming, params = coming or Coming(upstream), upstream.params
    kept = KeptSignatures(store.root, str(upstream.key)).of_source
    signature = SourceSignature.kept(upstream.source, kept) or SourceSignature.of(
        upstream.source, upstream.commit
    )

    def write(staging: Staging) -> None:
        here = _missing_bytes(upstream, staging.path)
        others = (_missing_bytes(each, _place_of(each, store)) for each in beside)
        require_disk_space(staging.path, here + sum(others))
        if signature is not None and upstream.source.directory is None:
            signature.require_announced(upstream.model())
        _write(coming, staging, store.root / str(upstream.key), on_progress)
        if signature is not None:
            signature.require(staging.known)

    built = store.build(stage_key(STAGE, VERSION, params), write, params=params)
    if signature is not None:  # asked for each run, as agreement is
        signature.require(built.artifact.manifest.files)
        make_directory(kept.parent)
        signature.keep(kept)
    _require_agreed(built.artifact, upstream)
    coming.settle(built.artifact)
    return built


def _require_agreed(model: Artifact, upstream: Upstream) -> None:
    """Raise UntrustedCode for a repository's own code, unless the recipe names its commit.

    Asked for each run: the download may have been made for a recipe that names it. Asked, too, of
    one whose files are not here: they are brought back without asking once a stage reads them.
    Whoever gives a directory has its code already.
    """
    source = upstream.source
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
            next_step=f"Read it, in {here}; then write `revision: {upstream.commit}` in the "
            f"recipe, or {source.repo}@{upstream.commit} in a command.",
        )


def _write(coming: Coming, staging: Staging, becomes: Path, on_progress: OnProgress) -> None:
    upstream = coming.upstream
    directory = upstream.source.directory
    if directory is not None:
        staging.record(copy_directory(directory, staging.path, on_progress).files)
        staging.note(directory=directory.name)
        return
    coming.expect(staging.path, becomes)
    written = download(upstream.model(), staging.path, on_progress=on_progress, listener=coming)
    staging.record(written.files)
    check_model(staging.path)
    require_tokenizer(staging.path)
    staging.note(revision=upstream.source.revision)


def _place_of(upstream: Upstream, store: Store) -> Path | None:
    """Return where a source is being written, None where it is whole or was freed after use."""
    name = str(upstream.key)
    if (store.root / name).exists() or store.freed(name) is not None:
        return None
    return store.root / ".staging" / name


def _missing_bytes(upstream: Upstream, place: Path | None) -> int:
    if place is None:
        return 0
    if upstream.source.directory is not None:
        return upstream.size_bytes()
    return missing_bytes(upstream.model(), place)
