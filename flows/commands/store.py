"""`kawan-usaha store`: what is built, whether it is whole, and what may go."""

from typing import Annotated

import typer
from annotated_types import Ge

from flows.commands.numbers import integer
from flows.commands.output import AS_JSON, show

store_app = typer.Typer(no_args_is_help=True, help="Look at the artifacts, verify, prune.")


def register(app: typer.Typer) -> None:
    """Add the commands to app."""
    app.add_typer(store_app, name="store")


@store_app.command("list")
def list_artifacts(as_json: Annotated[bool, AS_JSON] = False) -> None:
    """Show every artifact: stage, size, age and what it was made from, also if it was freed."""
    from tasks.core.home import home
    from tasks.core.store import Store

    store = Store(home())
    artifacts = [*store.artifacts(), *store.freed_artifacts()]
    rows: list[object] = [
        {
            "artifact": str(artifact.key),
            "created_at": artifact.manifest.created_at.isoformat(timespec="seconds"),
            "size_bytes": artifact.manifest.size_bytes,
            "wall_s": artifact.manifest.wall_s,
            "params": artifact.manifest.params,
            "path": artifact.path,
            "freed": artifact.freed,
        }
        for artifact in artifacts
    ]
    lines = [
        f"{artifact.key!s:<34} {artifact.manifest.created_at:%Y-%m-%d %H:%M} "
        f"{artifact.manifest.size_bytes / 1e6:>12,.1f} MB {artifact.manifest.wall_s:>8.1f} s"
        f"{'  freed' if artifact.freed else ''}"
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
        int,
        integer("Keep what this many finished rebuilds and releases of each recipe use.", Ge(0)),
    ] = 2,
    unfinished: Annotated[
        bool,
        typer.Option(
            "--unfinished",
            help="Remove unfinished work too: what runs that failed or were stopped have made so "
            "far, checkpoints and partial downloads included.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Remove what neither the last rebuilds, nor unfinished ones, nor a deployment use.

    Shows what each item is, why it can go and how many bytes it frees; what is shared with
    something that stays frees nothing.

    Example: `kawan-usaha store prune --unfinished --dry-run`
    """
    from tasks.core.home import home
    from tasks.core.planning.units import readable
    from tasks.core.room import Item
    from tasks.core.room import prune as remove
    from tasks.core.room import room as look

    act = look if dry_run else remove
    found = act(home(), keep_runs=keep_runs, unfinished=unfinished)
    word = "would be freed" if dry_run else "freed"
    lines = [f"{item}" for item in found.items]
    lines.append(f"{readable(found.freed_bytes)} {word}." if lines else "Nothing to remove.")
    if found.held:
        lines += ["", "Kept for unfinished work; `--unfinished` removes it too:"]
        lines += [f"{item}" for item in found.held]

    def plain(items: tuple[Item, ...]) -> list[dict[str, object]]:
        return [
            {
                "name": item.path.name,
                "kind": item.kind,
                "reason": item.reason,
                "freed_bytes": item.freed_bytes,
            }
            for item in items
        ]

    result: dict[str, object] = {
        "removed": plain(found.items),
        "held": plain(found.held),
        "freed_bytes": found.freed_bytes,
        "dry_run": dry_run,
    }
    show(result, as_json=as_json, text="\n".join(lines))
