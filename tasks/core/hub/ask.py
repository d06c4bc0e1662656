"""What a source is, asked before anything is downloaded: its configuration and its size."""

import tempfile
from pathlib import Path

from tasks.core.foreign import JsonObject, read_json_object
from tasks.core.hub.client import api, translated
from tasks.core.hub.download import resolve
from tasks.core.hub.local_copy import choose_from_directory
from tasks.core.model_config import read_config
from tasks.core.recipe import Source


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


def source_size_bytes(source: Source) -> int:
    """Return the bytes of the files that `fetch` would take. Raises as `resolve` does."""
    if source.directory is not None:
        names = choose_from_directory(source.directory)
        return sum((source.directory / name).stat().st_size for name in names)
    return resolve(str(source.repo), source.revision).size_bytes
