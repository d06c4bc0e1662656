"""`kawan-usaha store push`, `pull`, `sign`: by hand what runs do by themselves."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.output import AS_JSON, show
from tasks.core.errors import UsageError

if TYPE_CHECKING:
    from tasks.core.store import Artifact, RemoteStore, Store

_NAMES = typer.Argument(
    help="Artifacts as `kawan-usaha store list` names them; a beginning that only one has is "
    "enough.",
    show_default=False,
)


def register(store_app: typer.Typer) -> None:
    """Add the commands to `kawan-usaha store`."""
    store_app.command()(push)
    store_app.command()(pull)
    store_app.command()(sign)


def push(
    names: Annotated[list[str] | None, _NAMES] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Bring artifacts to the remote store that KAWAN_USAHA_REMOTE names; by default all.

    Only what is not there is sent, and every byte of it is read back. Runs do so by themselves:
    this is for what was made before there was a remote store, or while it could not be reached.

    Example: `export KAWAN_USAHA_REMOTE=s3://bucket/artifacts; kawan-usaha store push`
    """
    with _shared_store() as (store, _):
        known = [str(artifact.key) for artifact in store.artifacts()]
        _show(store, map(store.push, _chosen(names, known) if names else known), as_json=as_json)


def pull(
    names: Annotated[list[str] | None, _NAMES] = None,
    everything: Annotated[bool, typer.Option("--all", help="Fetch all that is there.")] = False,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Fetch artifacts from the remote store that KAWAN_USAHA_REMOTE names, each byte verified.

    Files that another artifact here has already are not fetched. Runs fetch what they need by
    themselves: this is for a machine that will be without a network.

    Example: `kawan-usaha store pull fuse-3f2a`
    """
    if bool(names) == everything:
        raise UsageError(
            "Say which artifacts to fetch.",
            expected="names, or --all",
            next_step="`kawan-usaha store list --remote` shows what is there.",
        )
    with _shared_store() as (store, remote):
        chosen = _chosen(names, remote.names()) if names else [n for n, _ in remote.artifacts()]
        made = [(name, store.pull(name)) for name in chosen]
        _show(store, (artifact for _, artifact in made), as_json=as_json)
    if any(artifact is None for _, artifact in made):  # broken there, which was told
        raise typer.Exit(1)


def sign(names: Annotated[list[str], _NAMES], as_json: Annotated[bool, AS_JSON] = False) -> None:
    """Sign artifacts that are here with the key that KAWAN_USAHA_SIGNING_KEY names.

    All of each is read first. Runs sign what they build by themselves: this is for what was built
    before there was a key, and says that you answer for what made it. `kawan-usaha store push` then
    brings the signatures to the remote store.

    Example: `kawan-usaha store sign fuse-3f2a`
    """
    from tasks.core.home import home
    from tasks.core.signing import KEY_VARIABLE, configured_key
    from tasks.core.store import Store
    from tasks.core.store.signed import sign as sign_artifact
    from tasks.core.store.signed import signed_by

    key = configured_key()
    if key is None:
        raise UsageError(
            "There is no key to sign with.",
            where=KEY_VARIABLE,
            expected="the file of a private key, of mode 0600",
            next_step="docs/signing.md shows how to make a pair of keys with openssl.",
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
def _shared_store() -> Iterator[tuple["Store", "RemoteStore"]]:
    """Yield the store and its remote store, which can be used. Nothing is pruned meanwhile."""
    from tasks.core.home import home
    from tasks.core.store import Store

    remote = required_remote()
    remote.require_usable()
    store = Store(home(), say=partial(typer.echo, err=True), remote=remote)
    with store.in_use():
        yield store, remote


def required_remote() -> "RemoteStore":
    """Return the remote store. Raises UsageError when none is named."""
    from tasks.core.store import configured_remote

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
    """Return the artifacts that these are the names, or the beginnings, of."""
    chosen = []
    for name in names:
        found = [name] if name in known else [each for each in known if each.startswith(name)]
        if len(found) != 1:
            raise UsageError(
                "There is no such artifact." if not found else "Several artifacts begin like this.",
                where=name,
                found=", ".join(found) or None,
                expected="one of `kawan-usaha store list`, with --remote to fetch it",
            )
        chosen += found
    return list(dict.fromkeys(chosen))


def _show(store: "Store", made: Iterable["Artifact | None"], *, as_json: bool) -> None:
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
    show(rows, as_json=as_json, text="\n".join(lines) or "There is nothing to move.")


def _where(store: "Store", artifact: "Artifact") -> str:
    if store.is_shared(artifact):
        return "here and there"
    if artifact.manifest.private:
        return "here only: it holds what people wrote"
    return "here; another one there"
