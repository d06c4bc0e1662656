"""What a source is, asked before anything is downloaded: its configuration and its size."""

import json
import tempfile
from pathlib import Path

from pydantic import JsonValue

from tasks.core.errors import NotAModel
from tasks.core.hub.client import api, translated
from tasks.core.hub.download import resolve
from tasks.core.hub.local_copy import choose_from_directory
from tasks.core.recipe import Source


def source_config(source: Source) -> dict[str, JsonValue]:
    """Return the config.json of a directory or of a Hub repository. Raises as `resolve` does."""
    if source.directory is not None:
        choose_from_directory(source.directory)
        return _parsed((source.directory / "config.json").read_bytes(), source)
    with tempfile.TemporaryDirectory() as cache, translated(str(source.repo), source.revision):
        path = api().hf_hub_download(
            str(source.repo), "config.json", revision=source.revision, cache_dir=cache
        )
        return _parsed(Path(path).read_bytes(), source)


def source_size_bytes(source: Source) -> int:
    """Return the bytes of the files that `fetch` would take. Raises as `resolve` does."""
    if source.directory is not None:
        names = choose_from_directory(source.directory)
        return sum((source.directory / name).stat().st_size for name in names)
    return resolve(str(source.repo), source.revision).size_bytes


def _parsed(content: bytes, source: Source) -> dict[str, JsonValue]:
    try:
        config = json.loads(content)
    except ValueError as error:
        raise NotAModel("config.json is not JSON.", where=source, found=error) from error
    if not isinstance(config, dict):
        raise NotAModel("config.json is no object.", where=source, found=type(config).__name__)
    return config
