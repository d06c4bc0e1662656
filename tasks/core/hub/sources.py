"""A source of the recipe as an artifact of the store: from the Hub at a commit, or a directory.

The key holds the commit, never the branch: a scheduled run asks the Hub one question, and when
nothing is new there it loads nothing.
"""

from pathlib import Path

from pydantic import JsonValue

from tasks.core.hub.download import download, resolve
from tasks.core.hub.local_copy import copy_directory, directory_identity
from tasks.core.keys import stage_key
from tasks.core.progress import Report, silent
from tasks.core.recipe import Source
from tasks.core.store import Built, Staging, Store
from tasks.core.weights.model_check import check_model
from tasks.core.weights.tokenizer_check import require_tokenizer

STAGE = "download"
VERSION = 2


def fetch(source: Source, store: Store, report: Report = silent) -> Built:
    """Return the artifact that holds the source's model.

    Raises what `resolve`, `download`, `copy_directory` and `check_model` raise.
    """
    if source.directory is not None:
        return _fetch_directory(source.directory, store, report)
    if source.repo is None:
        raise ValueError(f"{source!r} names neither a repository nor a directory")
    resolved = resolve(source.repo, source.revision)
    params: dict[str, JsonValue] = {"repo": resolved.repo, "commit": resolved.commit}

    def write(staging: Staging) -> None:
        staging.record(download(resolved, staging.path, report=report).files)
        check_model(staging.path)
        require_tokenizer(staging.path)
        staging.note(revision=source.revision)

    return store.build(stage_key(STAGE, VERSION, params), write, params=params)


def _fetch_directory(directory: Path, store: Store, report: Report) -> Built:
    params: dict[str, JsonValue] = {"directory_state": directory_identity(directory)}

    def write(staging: Staging) -> None:
        staging.record(copy_directory(directory, staging.path, report).files)
        staging.note(directory=directory.name)

    return store.build(stage_key(STAGE, VERSION, params), write, params=params)
