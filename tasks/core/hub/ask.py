"""What a source is, asked before anything is downloaded: its configuration and its size."""

import tempfile
from pathlib import Path

from tasks.core.foreign import JsonObject, read_json_object
from tasks.core.hub.client import api, translated
from tasks.core.hub.download import resolve
from tasks.core.hub.local_copy import choose_from_directory
from tasks.core.model_config import read_config
from tasks.core.recipe import Source
from tasks.core.template_record import TEMPLATE_RECORD, recorded_template


def source_config(source: Source) -> JsonObject:
    """Return the config.json of a directory or of a Hub repository. Raises as `resolve` does."""
    if source.directory is not None:
        choose_from_directory(source.directory)
        return read_config(source.directory)
    with tempfile.TemporaryDirectory() as cache, translated(str(source.repo), source.revision):
        path = api().hf_hub_download(
            str(source.repo), "config.json", revision=source.revision, cache_dir=cache
        )
        return read_json_object(Path(path))


def source_template(source: Source) -> str | None:
    """Return the conversation template that a source records, None where it records none.

    Raises as `resolve` does.
    """
    if source.directory is not None:
        return recorded_template(source.directory)
    repo, revision = str(source.repo), source.revision
    with tempfile.TemporaryDirectory() as cache, translated(repo, revision):
        if not api().file_exists(repo, TEMPLATE_RECORD, revision=revision):
            return None
        path = api().hf_hub_download(repo, TEMPLATE_RECORD, revision=revision, cache_dir=cache)
        return recorded_template(Path(path).parent)


def source_size_bytes(source: Source) -> int:
    """Return the bytes of the files that `fetch` would take. Raises as `resolve` does."""
    if source.directory is not None:
        names = choose_from_directory(source.directory)
        return sum((source.directory / name).stat().st_size for name in names)
    return resolve(str(source.repo), source.revision).size_bytes
