"""What a command may be given as a model: a directory, or a Hub repository with its revision."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flows.commands.output import bytes_bar
from tasks.core.errors import UsageError
from tasks.core.recipe import Source

if TYPE_CHECKING:
    from tasks.core.signing import SigningKey
    from tasks.core.store import Store

TEMPLATE = typer.Option(
    help="FastChat's conversation template; by default the one that the model was trained with, "
    "if it records one, else vicuna_v1.1.",
    show_default=False,
)
SIGNED_BY = typer.Option(
    help="Refuse the model unless it was signed with the private key of this public one (PEM)."
)
MODEL_HELP = "A model directory, or a Hub repository as owner/name or owner/name@revision."


def source_of(text: str, signed_by: Path | None = None) -> Source:
    """Return the source that the text means. Raises UsageError when it can mean none.

    signed_by is the public key whose signature it must carry.
    """
    if Path(text).is_dir():
        return Source(directory=Path(text), signed_by=signed_by)
    repo, _, revision = text.partition("@")
    try:
        return Source(repo=repo, revision=revision or "main", signed_by=signed_by)
    except ValueError as error:
        raise UsageError(
            "This is neither a directory nor the name of a Hub repository.",
            where=text,
            expected=MODEL_HELP,
            next_step="Check the path.",
        ) from error


@contextmanager
def local_model(text: str, signed_by: Path | None = None) -> Iterator[Path]:
    """Yield the directory itself, or where the repository lies in the store after its download.

    During the block `kawan-usaha store prune` takes nothing away. With signed_by each byte of it
    was signed with the private key of this public one, or SignatureRefused is raised.
    """
    from tasks.core.home import home
    from tasks.core.hub.download.artifact import download_source
    from tasks.core.hub.download.pinned import PinnedSource
    from tasks.core.signing import configured_key

    source = source_of(text, signed_by)
    if source.directory is not None:
        with in_use(source.directory):
            if signed_by is not None:
                require_signed(source.directory, signed_by)
            yield source.directory
        return
    store = _store(home(), configured_key())
    with store.in_use():
        with bytes_bar(f"download {text}") as report:
            artifact = download_source(PinnedSource(source, store), store, report).artifact
        if signed_by is not None:  # it may have been here for long
            store.require_content(artifact)
        yield artifact.path


@contextmanager
def in_use(*paths: Path) -> Iterator[None]:
    """Keep `kawan-usaha store prune` away during the block if a path lies in the store."""
    from tasks.core.home import home

    store = _store(home())
    if any(path.resolve().is_relative_to(store.root.resolve()) for path in paths):
        with store.in_use():
            yield
    else:
        yield


def require_signed(model: Path, signed_by: Path) -> None:
    """Raise SignatureRefused unless a directory, or a store's artifact, is what was signed.

    All of it is read; CorruptArtifact where it is damaged.
    """
    from tasks.core.home import home
    from tasks.core.release.signed_model import require_signed_model
    from tasks.core.signing import public_keys

    require_signed_model(model, public_keys(signed_by), _store(home()))


def _store(home: Path, key: "SigningKey | None" = None) -> "Store":
    from tasks.core.store import Store, configured_remote

    return Store(home, say=partial(typer.echo, err=True), remote=configured_remote(), key=key)
