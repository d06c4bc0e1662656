"""A source of the recipe as an artifact of the store: from the Hub at a commit, or a directory.

The key holds the commit, never the branch: a scheduled run asks the Hub one question, and when
nothing is new there it loads nothing.
"""

from collections.abc import Sequence
from pathlib import Path

from tasks.core.files import require_room
from tasks.core.hub.coming import Coming
from tasks.core.hub.download import download, missing_bytes
from tasks.core.hub.local_copy import copy_directory
from tasks.core.hub.upstream import STAGE, VERSION, Upstream
from tasks.core.keys import stage_key
from tasks.core.progress import Report, silent
from tasks.core.store import Built, Staging, Store
from tasks.core.weights.model_check import check_model
from tasks.core.weights.tokenizer_check import require_tokenizer


def fetch(
    upstream: Upstream,
    store: Store,
    report: Report = silent,
    *,
    beside: Sequence[Upstream] = (),
    coming: Coming | None = None,
) -> Built:
    """Return the artifact that holds the source's model.

    beside are sources that are fetched at the same time: there must be room for what is missing of
    them, too. coming is told what there is while it is fetched. Raises what `Upstream`,
    `download`, `copy_directory` and `check_model` raise.
    """
    coming, params = coming or Coming(upstream), upstream.params

    def write(staging: Staging) -> None:
        here = _missing_bytes(upstream, staging.path)
        others = (_missing_bytes(each, _place_of(each, store)) for each in beside)
        require_room(staging.path, here + sum(others))
        _write(coming, staging, report)

    built = store.build(stage_key(STAGE, VERSION, params), write, params=params)
    coming.settle(built.artifact)
    return built


def _write(coming: Coming, staging: Staging, report: Report) -> None:
    upstream = coming.upstream
    directory = upstream.source.directory
    if directory is not None:
        staging.record(copy_directory(directory, staging.path, report).files)
        staging.note(directory=directory.name)
        return
    coming.expect(staging.path)
    written = download(upstream.model(), staging.path, report=report, listener=coming)
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
