"""`kawan-usaha store`: list, verify and prune artifacts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from annotated_types import Ge

from flows.command_line.numbers import integer
from flows.command_line.output import AsJson, delete_by_hand, show
from flows.commands.store_remote import pull, push, required_remote, sign
from tasks.core.errors import CorruptRemote
from tasks.core.home import home
from tasks.core.store import Artifact, Store, configured_remote
from tasks.core.store.remote import RemoteArtifact
from tasks.core.store.signed import signed_by
from tasks.core.units import readable

if TYPE_CHECKING:
    from tasks.core.pruning import PrunableItem

app = typer.Typer(no_args_is_help=True, help="List, verify, prune and share artifacts.")


@app.command("list")
@app.command("ls", hidden=True)
def list_artifacts(
    remote: Annotated[
        bool,
        typer.Option(
            "--remote",
            help="Also list what is at the remote store (KAWAN_USAHA_REMOTE).",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List every artifact, also freed ones: stage, time, size, and how long it took to build.

    With a remote store, artifacts that are known to be there too are marked `shared`. With
    `--remote` it is asked, and artifacts that are only there are listed too.

    Example: `kawan-usaha store list --json`
    """
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


def _is_in(there: Mapping[str, RemoteArtifact | CorruptRemote], artifact: Artifact) -> bool:
    found = there.get(str(artifact.key))
    return (
        found is not None
        and not isinstance(found, CorruptRemote)
        and (found.digest == artifact.digest)
    )


def _row(artifact: Artifact, *, here: bool, shared: bool | None) -> dict[str, object]:
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


def _line(artifact: Artifact, *notes: str) -> str:
    line = (
        f"{artifact.key!s:<34} {artifact.manifest.created_at:%Y-%m-%d %H:%M} "
        f"{artifact.manifest.size_bytes / 1e6:>12,.1f} MB {artifact.manifest.wall_s:>8.1f} s"
    )
    return "  ".join([line, *(note for note in notes if note)])


@app.command()
def verify(as_json: AsJson = False) -> None:
    """Read every byte of every artifact and compare it with its manifest.

    Exit code 1 if something is damaged. The next run that needs a damaged artifact sets it aside
    and builds it again.

    Example: `kawan-usaha store verify`
    """
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


@app.command()
def prune(
    keep_runs: Annotated[
        int,
        integer("Keep what this many finished rebuilds and releases of each recipe use.", Ge(0)),
    ] = 2,
    unfinished: Annotated[
        bool,
        typer.Option(
            "--unfinished",
            help="Also remove unfinished work of runs that failed or were stopped, such as "
            "checkpoints and partial downloads.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be removed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what no recent rebuild, unfinished rebuild or deployment uses.

    Lists each item with the reason and the bytes that it frees; what is shared with something that
    stays frees none. Also deletes collected answers past their retention, those of stopped
    deployments included.

    Example: `kawan-usaha store prune --unfinished --dry-run`
    """
    from flows.actions.prune import prune_all

    pruned = prune_all(keep_runs=keep_runs, unfinished=unfinished, dry_run=dry_run)
    found = pruned.found
    word = "would be freed" if dry_run else "freed"
    lines = [f"{item}" for item in found.items]
    lines.append(f"{readable(found.freed_bytes)} {word}." if lines else "Nothing to remove.")
    lines += delete_by_hand(pruned.at_remote)
    if found.held:
        lines += ["", "Kept for unfinished work; `--unfinished` removes it too:"]
        lines += [f"{item}" for item in found.held]
    result: dict[str, object] = {
        "removed": [_plain(item) for item in found.items],
        "held": [_plain(item) for item in found.held],
        "freed_bytes": found.freed_bytes,
        "at_remote": pruned.at_remote,
        "dry_run": dry_run,
    }
    show(result, as_json=as_json, text="\n".join(lines))


def _plain(item: "PrunableItem") -> dict[str, object]:
    return {
        "name": item.path.name,
        "kind": item.kind,
        "reason": item.reason,
        "freed_bytes": item.freed_bytes,
    }


app.command()(push)
app.command()(pull)
app.command()(sign)
