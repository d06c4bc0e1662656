"""`kawan-usaha store push`, `pull` and `sign`: what runs do automatically, by hand."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated

import typer

from flows.command_line.output import AsJson, show
from tasks.core.errors import UsageError
from tasks.core.home import home
from tasks.core.signing import KEY_VARIABLE, configured_key
from tasks.core.store import Artifact, RemoteStore, Store, configured_remote
from tasks.core.store.signed import sign as sign_artifact
from tasks.core.store.signed import signed_by

_NAMES = typer.Argument(
    help="Artifacts as `kawan-usaha store list` names them, or unambiguous prefixes.",
    show_default=False,
)


def push(
    names: Annotated[list[str] | None, _NAMES] = None,
    as_json: AsJson = False,
) -> None:
    """Upload artifacts to the remote store that KAWAN_USAHA_REMOTE names; by default all.

    Only missing files are uploaded, and every byte is read back. Runs do this automatically: the
    command is for artifacts built before there was a remote store, or while it was unavailable.

    Example: `kawan-usaha store push`, after `export KAWAN_USAHA_REMOTE=s3://bucket/artifacts`
    """
    with _shared_store() as (store, _):
        known = [str(artifact.key) for artifact in store.artifacts()]
        _show(store, map(store.push, _chosen(names, known) if names else known), as_json=as_json)


def pull(
    names: Annotated[list[str] | None, _NAMES] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Download all artifacts that are there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Download artifacts from the remote store that KAWAN_USAHA_REMOTE names, each byte verified.

    Files that another local artifact has are not downloaded. Runs download what they need: the
    command is for a machine that will be without a network.

    Example: `kawan-usaha store pull fuse-3f2a`
    """
    if bool(names) == everything:
        raise UsageError(
            "Name the artifacts to download.",
            expected="names, or --all",
            next_step="`kawan-usaha store list --remote` lists them.",
        )
    with _shared_store() as (store, remote):
        chosen = _chosen(names, remote.names()) if names else [n for n, _ in remote.artifacts()]
        made = [(name, store.pull(name)) for name in chosen]
        _show(store, (artifact for _, artifact in made), as_json=as_json)
    if any(artifact is None for _, artifact in made):  # damaged there, which was reported
        raise typer.Exit(1)


def sign(names: Annotated[list[str], _NAMES], as_json: AsJson = False) -> None:
    """Sign local artifacts with the key that KAWAN_USAHA_SIGNING_KEY names.

    Each artifact is read completely first. Runs sign what they build: the command is for artifacts
    built before there was a key, and with it you vouch for how they were built. `kawan-usaha store
    push` then uploads the signatures to the remote store.

    Example: `kawan-usaha store sign fuse-3f2a`
    """
    key = configured_key()
    if key is None:
        raise UsageError(
            "There is no signing key.",
            where=KEY_VARIABLE,
            expected="the path of a private key with mode 0600",
            next_step="docs/signing.md shows how to create a pair of keys.",
        )
    store = Store(home(), say=partial(typer.echo, err=True))
    with store.in_use():
        known = [str(artifact.key) for artifact in store.artifacts()]
        for name in (chosen := _chosen(names, known)):
            sign_artifact(store, name, key)
    rows = [{"artifact": name, "signed_by": signed_by(store, name)} for name in chosen]
    lines = [f"{name}: signed with {key.fingerprint}" for name in chosen]
    show(rows, as_json=as_json, text="\n".join(lines))


@contextmanager
def _shared_store() -> Iterator[tuple[Store, RemoteStore]]:
    """Yield the store and its usable remote store. Nothing is pruned during the block."""
    remote = required_remote()
    remote.require_usable()
    store = Store(home(), say=partial(typer.echo, err=True), remote=remote)
    with store.in_use():
        yield store, remote


def required_remote() -> RemoteStore:
    """Return the remote store. Raises UsageError when none is named."""
    remote = configured_remote()
    if remote is None:
        raise UsageError(
            "There is no remote store.",
            where="KAWAN_USAHA_REMOTE",
            expected="a URL such as s3://bucket/artifacts or file:///mnt/share/artifacts",
            next_step="`export KAWAN_USAHA_REMOTE=s3://bucket/artifacts`; its keys come from the "
            "environment too (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL).",
        )
    return remote


def _chosen(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the artifacts with these names or prefixes."""
    chosen = []
    for name in names:
        found = [name] if name in known else [each for each in known if each.startswith(name)]
        if len(found) != 1:
            raise UsageError(
                "There is no such artifact."
                if not found
                else "Several artifacts have this prefix.",
                where=name,
                found=", ".join(found) or None,
                expected="one of `kawan-usaha store list`, with --remote to fetch it",
            )
        chosen += found
    return list(dict.fromkeys(chosen))


def _show(store: Store, made: Iterable[Artifact | None], *, as_json: bool) -> None:
    artifacts = [artifact for artifact in made if artifact is not None]
    rows: list[object] = [
        {
            "artifact": str(artifact.key),
            "size_bytes": artifact.manifest.size_bytes,
            "path": artifact.path,
            "shared": store.is_shared(artifact),
        }
        for artifact in artifacts
    ]
    lines = [
        f"{artifact.key!s:<34} {artifact.manifest.size_bytes / 1e6:>12,.1f} MB  "
        + _where(store, artifact)
        for artifact in artifacts
    ]
    show(rows, as_json=as_json, text="\n".join(lines) or "There is nothing to transfer.")


def _where(store: Store, artifact: "Artifact") -> str:
    if store.is_shared(artifact):
        return "here and there"
    if artifact.manifest.private:
        return "here only: it contains what people wrote"
    return "here; a different one there"
