"""`kawan-usaha store`: what is built, whether it is whole, and what may go."""

from typing import Annotated

import typer

from flows.commands.output import AS_JSON, show

store_app = typer.Typer(no_args_is_help=True, help="Look at the artifacts, verify, prune.")


def register(app: typer.Typer) -> None:
    """Add the commands to app."""
    app.add_typer(store_app, name="store")


@store_app.command("list")
def list_artifacts(as_json: Annotated[bool, AS_JSON] = False) -> None:
    """Show every artifact: stage, size, age and what it was made from."""
    from tasks.core.home import home
    from tasks.core.store import Store

    artifacts = list(Store(home()).artifacts())
    rows: list[object] = [
        {
            "artifact": str(artifact.key),
            "created_at": artifact.manifest.created_at.isoformat(timespec="seconds"),
            "size_bytes": artifact.manifest.size_bytes,
            "wall_s": artifact.manifest.wall_s,
            "params": artifact.manifest.params,
            "path": artifact.path,
        }
        for artifact in artifacts
    ]
    lines = [
        f"{artifact.key!s:<34} {artifact.manifest.created_at:%Y-%m-%d %H:%M} "
        f"{artifact.manifest.size_bytes / 1e6:>12,.1f} MB {artifact.manifest.wall_s:>8.1f} s"
        for artifact in artifacts
    ]
    show(rows, as_json=as_json, text="\n".join(lines) or f"Nothing is built yet in {home()}.")


@store_app.command()
def verify(as_json: Annotated[bool, AS_JSON] = False) -> None:
    """Read every byte of every artifact and compare it with its manifest.

    Exit code 1 when something is damaged. A damaged artifact is set aside and made again by the
    next run that needs it.
    """
    from tasks.core.home import home
    from tasks.core.store import Store

    store = Store(home())
    with store.in_use():
        found = store.verify()
    lines = [
        f"{name}: {'whole' if not problems else '; '.join(problems)}"
        for name, problems in found.items()
    ]
    show(dict(found), as_json=as_json, text="\n".join(lines) or "Nothing is built yet.")
    if any(found.values()):
        raise typer.Exit(1)


@store_app.command()
def prune(
    keep_runs: Annotated[
        int, typer.Option(min=0, help="Keep what this many successful rebuilds of each recipe use.")
    ] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Remove what neither the last rebuilds nor a running deployment use, and all leftovers."""
    from tasks.core.home import home
    from tasks.core.serving.state import used_builds
    from tasks.core.store import Store
    from tasks.core.store.runs import RunRecords

    keep = RunRecords(home()).artifacts_of_last(keep_runs) | used_builds(home())
    gone = Store(home()).prune(keep, dry_run=dry_run)
    word = "would be removed" if dry_run else "removed"
    text = "\n".join(f"{word}: {name}" for name in gone) or "Nothing to remove."
    show({"removed": gone, "dry_run": dry_run}, as_json=as_json, text=text)
