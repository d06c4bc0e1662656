"""A model on this machine: a directory, or a Hub repository after its download into the store."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import typer

from flows.command_line.output import bytes_bar
from flows.command_line.sources import source_of
from tasks.core.home import home
from tasks.core.hub.download.artifact import download_source
from tasks.core.hub.download.pinned import PinnedSource
from tasks.core.release.signed_model import require_signed_model
from tasks.core.signing import SigningKey, configured_key, public_keys
from tasks.core.store import Store, configured_remote


@contextmanager
def local_model(text: str, signed_by: Path | None = None) -> Iterator[Path]:
    """Yield the directory itself, or where the repository lies in the store after its download.

    During the block `kawan-usaha store prune` removes nothing of it. With `signed_by`, raises
    SignatureRefused unless every byte was signed with the private key of this public one.
    """
    source = source_of(text, signed_by)
    if source.directory is not None:
        with in_use(source.directory):
            if signed_by is not None:
                require_signed(source.directory, signed_by)
            yield source.directory
        return
    store = _store(configured_key())
    with store.in_use():
        with bytes_bar(f"download {text}") as report:
            artifact = download_source(PinnedSource(source, store), store, report).artifact
        if signed_by is not None:  # the artifact may be old
            store.require_content(artifact)
        yield artifact.path


@contextmanager
def in_use(*paths: Path) -> Iterator[None]:
    """Keep `kawan-usaha store prune` away during the block if a path lies in the store."""
    store = _store()
    if any(path.resolve().is_relative_to(store.root.resolve()) for path in paths):
        with store.in_use():
            yield
    else:
        yield


def require_signed(model: Path, signed_by: Path) -> None:
    """Raise SignatureRefused unless a directory, or an artifact of the store, is what was signed.

    Reads all of it; raises CorruptArtifact if it is damaged.
    """
    require_signed_model(model, public_keys(signed_by), _store())


def _store(key: SigningKey | None = None) -> Store:
    return Store(home(), say=partial(typer.echo, err=True), remote=configured_remote(), key=key)
