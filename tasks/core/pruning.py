"""What can go from the store, why, and how many bytes it frees; the advice on a full disk.

Above store and serving, because both know what is needed. Nothing is removed that an unfinished
run needs, unless that is asked for in words:

- kept: what the last rebuilds and releases of each recipe use, and what is served;
- held: what only unfinished work needs, and every staging directory of which no run is known;
- everything else can go;
- what holds collected answers that were deleted goes in any case (`collected/stale_artifacts.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.core.collected.stale_artifacts import stale_artifacts
from tasks.core.errors import DiskFull
from tasks.core.serving.state.files import used_builds
from tasks.core.store import Store
from tasks.core.store.links import gains
from tasks.core.store.runs import RunRecords
from tasks.core.store.shelf import EntryKind
from tasks.core.units import readable

KEEP_RUNS = 2

_KINDS: dict[EntryKind, str] = {
    "artifact": "artifact",
    "staging": "unfinished work",
    "corrupt": "damaged artifact",
    "freed": "note of a freed artifact",
    "trash": "interrupted removal",
}
_NAMED_IN_ADVICE = 5
_OF_DELETED = "holds answers that a deployment no longer keeps"


@dataclass(frozen=True)
class PrunableItem:
    """Something of the store that can go: what it is, why, and the bytes that are then free."""

    path: Path
    kind: str
    reason: str
    freed_bytes: int

    def __str__(self) -> str:
        return f"{self.path.name:<32} {readable(self.freed_bytes):>9}  {self.kind}: {self.reason}"


@dataclass(frozen=True)
class Prunable:
    """What can go, and what is held for unfinished work. Hard-linked bytes are counted once."""

    items: tuple[PrunableItem, ...]
    held: tuple[PrunableItem, ...]

    @property
    def freed_bytes(self) -> int:
        """Bytes that are free once all items are removed."""
        return sum(item.freed_bytes for item in self.items)

    @property
    def deleted(self) -> tuple[str, ...]:
        """The artifacts that go because they hold answers that were deleted."""
        gone = [item for item in self.items if item.reason == _OF_DELETED]
        kinds = (_KINDS["artifact"], _KINDS["freed"])
        return tuple(sorted({item.path.name for item in gone if item.kind in kinds}))


def prunable(home: Path, *, keep_runs: int = KEEP_RUNS, unfinished: bool = False) -> Prunable:
    """Return what can go; with `unfinished` that includes what unfinished work alone needs."""
    records, store = RunRecords(home), Store(home)
    kept = records.artifacts_of_last(keep_runs) | used_builds(home)
    needed = dict.fromkeys(kept, "an artifact in use, being made again")
    for run in records.unfinished():
        needed |= dict.fromkeys(run.artifacts, f"{run}, unfinished")
    oldest_first = reversed(records.all())
    earlier = {name: f"{run}, superseded" for run in oldest_first for name in run.artifacts}
    going: dict[Path, tuple[EntryKind, str]] = {}
    held: dict[Path, tuple[EntryKind, str]] = {}
    deleted = stale_artifacts(home).going
    contents = store.contents()
    whole = {path.name for path in contents["artifact"]}
    for place, paths in contents.items():
        for path in paths:
            if path in deleted:
                going[path] = (place, _OF_DELETED)
                continue
            if place in ("artifact", "freed") and path.name in kept:
                continue
            reason, is_held = _judged(place, path.name, needed, earlier, whole)
            (held if is_held and not unfinished else going)[path] = (place, reason)
    return Prunable(_items(going), _held_items(held, going))


def prune_store(home: Path, *, keep_runs: int = KEEP_RUNS, unfinished: bool = False) -> Prunable:
    """Remove what can go and return it. Raises LockBusy while a run is in progress."""
    store = Store(home)
    with store.unused():
        found = prunable(home, keep_runs=keep_runs, unfinished=unfinished)
        store.remove(item.path for item in found.items)
        RunRecords(home).forget(unfinished=unfinished)
    return found


def with_advice(error: DiskFull, home: Path) -> DiskFull:
    """Return the error with what can go from the store, if the disk is the store's.

    Only what no unfinished run needs is named.
    """
    if error.advised or not _same_disk(error.where, home):
        return error
    if not Store(home).root.is_dir():
        return error
    found = prunable(home)
    largest = sorted(found.items, key=lambda item: item.freed_bytes, reverse=True)
    named = [item for item in largest if item.freed_bytes > 0]
    if named:
        shown = "".join(f"\n    {item}" for item in named[:_NAMED_IN_ADVICE])
        more = len(named) - _NAMED_IN_ADVICE
        others = f"\n    and {more} more" if more > 0 else ""
        advice = (
            f"`kawan-usaha store prune` frees {readable(found.freed_bytes)} and takes nothing that "
            f"an unfinished run needs:{shown}{others}"
        )
    else:
        advice = (
            "Nothing in the store can go without loss; `keep: released` in the recipe keeps less "
            "of it."
        )
    advised = DiskFull(
        error.what,
        where=error.where,
        expected=error.expected,
        found=error.found,
        next_step=" ".join(part for part in (error.next_step, advice) if part),
    )
    advised.advised = True
    return advised


def _judged(
    place: EntryKind,
    name: str,
    needed: Mapping[str, str],
    earlier: Mapping[str, str],
    whole: set[str],
) -> tuple[str, bool]:
    """Return why something may go, and whether unfinished work needs it.

    Beside `<key>` there may be `<key>.fetched` and the like in staging: transfers of its work.
    """
    name = name.partition(".")[0]
    if place == "corrupt":
        return "set aside when it was found", False
    if place == "trash":
        return "it was being removed", False
    if place == "staging" and name in whole:
        return "the artifact was made since", False
    if name in needed:
        return needed[name], True
    if name in earlier:
        return earlier[name], False
    return "no rebuild on record uses it", place == "staging"


def _items(found: Mapping[Path, tuple[EntryKind, str]]) -> tuple[PrunableItem, ...]:
    bytes_of = [gain.freed_bytes for gain in gains(list(found))]
    return tuple(
        PrunableItem(path, _KINDS[place], reason, freed)
        for (path, (place, reason)), freed in zip(found.items(), bytes_of, strict=True)
    )


def _held_items(
    held: Mapping[Path, tuple[EntryKind, str]], going: Mapping[Path, tuple[EntryKind, str]]
) -> tuple[PrunableItem, ...]:
    """Return what is held, with the bytes that it frees beyond what goes anyway."""
    return _items({**going, **held})[len(going) :]


def _same_disk(where: str | None, home: Path) -> bool:
    """Tell whether the error speaks of the store's disk; one that names no place does."""
    if where is None:
        return True
    return "://" not in where and _device(Path(where)) == _device(home)


def _device(path: Path) -> int:
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return existing.stat().st_dev
