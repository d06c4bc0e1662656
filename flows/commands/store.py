"""`kawan-usaha store`: what is built, whether it is whole, and what may go."""

from typing import TYPE_CHECKING, Annotated

import typer
from annotated_types import Ge

from flows.commands import store_remote
from flows.commands.numbers import integer
from flows.commands.output import AS_JSON, show
from flows.commands.store_remote import required_remote
from tasks.core.errors import CorruptRemote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.core.store import Artifact
    from tasks.core.store.remote import RemoteArtifact

store_app = typer.Typer(no_args_is_help=True, help="Look at the artifacts, verify, prune, share.")


def register(app: typer.Typer) -> None:
    """Add the commands to app."""
    store_remote.register(store_app)
    app.add_typer(store_app, name="store")


@store_app.command("list")
@store_app.command("ls", hidden=True)
def list_artifacts(
    remote: Annotated[
        bool,
        typer.Option(
            "--remote",
            help="Ask the remote store (KAWAN_USAHA_REMOTE), and show what is there too.",
        ),
    ] = False,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Show every artifact: stage, size, age and what it was made from, also if it was freed.

    With a remote store: what is known to be there too (`shared`). With --remote it is asked, and
    shows what is only there as well.
    """
    from tasks.core.home import home
    from tasks.core.store import Artifact, Store, configured_remote
    from tasks.core.store.signed import signed_by

    store = Store(home(), remote=required_remote() if remote else configured_remote())
    there = dict(required_remote().artifacts()) if remote else {}
    rows, lines = [], []
    for artifact in (*store.artifacts(), *store.freed_artifacts()):
        shared = _is_in(there, artifact) if remote else store.is_shared(artifact)
        row = _row(artifact, here=True, shared=shared)
        rows.append({**row, "signed_by": signed_by(store, str(artifact.key))})
        lines.append(_line(artifact, "freed" if artifact.freed else "", "shared" if shared else ""))
    here = {row["artifact"] for row in rows}
    for name, found in there.items():
        if isinstance(found, CorruptRemote):
            rows.append({"artifact": name, "here": name in here, "broken": found.what})
            lines.append(f"{name:<34} broken at the remote store: {found.what}")
        elif name not in here:
            artifact = Artifact(store.root / name, found.manifest)
            rows.append(_row(artifact, here=False, shared=True))
            lines.append(_line(artifact, "only at the remote store"))
    show(rows, as_json=as_json, text="\n".join(lines) or f"Nothing is built yet in {home()}.")


def _is_in(there: "Mapping[str, RemoteArtifact | CorruptRemote]", artifact: "Artifact") -> bool:
    found = there.get(str(artifact.key))
    return (
        found is not None
        and not isinstance(found, CorruptRemote)
        and (found.digest == artifact.digest)
    )


def _row(artifact: "Artifact", *, here: bool, shared: bool | None) -> dict[str, object]:
    return {
        "artifact": str(artifact.key),
        "created_at": artifact.manifest.created_at.isoformat(timespec="seconds"),
        "size_bytes": artifact.manifest.size_bytes,
        "wall_s": artifact.manifest.wall_s,
        "params": artifact.manifest.params,
        "path": artifact.path if here else None,
        "freed": artifact.freed,
        "here": here,
        "shared": shared,
    }


def _line(artifact: "Artifact", *notes: str) -> str:
    line = (
        f"{artifact.key!s:<34} {artifact.manifest.created_at:%Y-%m-%d %H:%M} "
        f"{artifact.manifest.size_bytes / 1e6:>12,.1f} MB {artifact.manifest.wall_s:>8.1f} s"
    )
    return "  ".join([line, *(note for note in notes if note)])


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
    something that stays frees nothing. Collected answers that are over their time go too, those of
    stopped deployments included.

    Example: `kawan-usaha store prune --unfinished --dry-run`
    """
    from flows.commands.data_forgotten import by_hand
    from tasks.core.collected.copies import copies_at
    from tasks.core.collected.everywhere import tidy_everywhere
    from tasks.core.home import home
    from tasks.core.learning.pages import remove_stale_pages
    from tasks.core.pruning import PrunableItem, prunable, prune_store
    from tasks.core.store import configured_remote
    from tasks.core.units import readable

    remote = configured_remote()  # before anything goes: its URL may be no good
    if not dry_run:
        tidy_everywhere(home())
    act = prunable if dry_run else prune_store
    found = act(home(), keep_runs=keep_runs, unfinished=unfinished)
    if not dry_run:
        remove_stale_pages(home())
    at_remote = copies_at(remote, found.deleted)
    word = "would be freed" if dry_run else "freed"
    lines = [f"{item}" for item in found.items]
    lines.append(f"{readable(found.freed_bytes)} {word}." if lines else "Nothing to remove.")
    lines += by_hand(at_remote)
    if found.held:
        lines += ["", "Kept for unfinished work; `--unfinished` removes it too:"]
        lines += [f"{item}" for item in found.held]

    def plain(items: tuple[PrunableItem, ...]) -> list[dict[str, object]]:
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
        "at_remote": at_remote,
        "dry_run": dry_run,
    }
    show(result, as_json=as_json, text="\n".join(lines))
