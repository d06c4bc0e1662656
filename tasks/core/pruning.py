"""Pruning the store: what can be removed, why, and how many bytes that frees.

Above store and serving, because both know what is needed. Nothing that an unfinished run needs is
removed unless the caller asks for it explicitly:

- kept: what the last rebuilds and releases of each recipe use, and what is served;
- held: what only unfinished work needs, and every staging directory that belongs to no known run;
- everything else can be removed;
- artifacts that hold deleted collected answers are removed in any case
  (`collected/stale_artifacts.py`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
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
    """Something in the store that can be removed: what it is, why, and the bytes it frees."""

    path: Path
    kind: str
    reason: str
    freed_bytes: int

    def __str__(self) -> str:
        return f"{self.path.name:<32} {readable(self.freed_bytes):>9}  {self.kind}: {self.reason}"


@dataclass(frozen=True)
class Prunable:
    """What can be removed, and what is held for unfinished work. Hard links are counted once."""

    items: tuple[PrunableItem, ...]
    held: tuple[PrunableItem, ...]

    @property
    def freed_bytes(self) -> int:
        """Bytes that removing all items frees."""
        return sum(item.freed_bytes for item in self.items)

    @property
    def deleted(self) -> tuple[str, ...]:
        """The artifacts that are removed because they hold deleted answers."""
        gone = [item for item in self.items if item.reason == _OF_DELETED]
        kinds = (_KINDS["artifact"], _KINDS["freed"])
        return tuple(sorted({item.path.name for item in gone if item.kind in kinds}))


def prunable(home: Path, *, keep_runs: int = KEEP_RUNS, unfinished: bool = False) -> Prunable:
    """Return what can be removed; with `unfinished` also what only unfinished work needs."""
    deleted = stale_artifacts(home).going
    needs = _Needs.of(home, keep_runs)
    going: dict[Path, tuple[EntryKind, str]] = {}
    held: dict[Path, tuple[EntryKind, str]] = {}
    for place, path in _entries(needs.contents):
        if path in deleted:
            going[path] = (place, _OF_DELETED)
        elif not needs.keeps(place, path.name):
            reason, is_held = needs.judged(place, path.name)
            (held if is_held and not unfinished else going)[path] = (place, reason)
    return Prunable(_items(going), _held_items(held, going))


def prune_store(home: Path, *, keep_runs: int = KEEP_RUNS, unfinished: bool = False) -> Prunable:
    """Remove what can be removed, and return it. Raises LockBusy while a run is in progress."""
    store = Store(home)
    with store.unused():
        found = prunable(home, keep_runs=keep_runs, unfinished=unfinished)
        store.remove(item.path for item in found.items)
        RunRecords(home).forget(unfinished=unfinished)
    return found


def with_advice(error: DiskFull, home: Path) -> DiskFull:
    """Return the error with what pruning would free, if the full disk is the store's.

    Only what no unfinished run needs is named.
    """
    if error.advised or not _same_disk(error.where, home):
        return error
    if not Store(home).root.is_dir():
        return error
    advice = _advice(prunable(home))
    advised = DiskFull(
        error.what,
        where=error.where,
        expected=error.expected,
        found=error.found,
        next_step=" ".join(part for part in (error.next_step, advice) if part),
    )
    advised.advised = True
    return advised


def _advice(found: Prunable) -> str:
    largest = sorted(found.items, key=lambda item: item.freed_bytes, reverse=True)
    named = [item for item in largest if item.freed_bytes > 0]
    if not named:
        return (
            "Nothing in the store can go without loss; `keep: released` in the recipe keeps less "
            "of it."
        )
    shown = "".join(f"\n    {item}" for item in named[:_NAMED_IN_ADVICE])
    more = len(named) - _NAMED_IN_ADVICE
    others = f"\n    and {more} more" if more > 0 else ""
    return (
        f"`kawan-usaha store prune` frees {readable(found.freed_bytes)} and takes nothing that "
        f"an unfinished run needs:{shown}{others}"
    )


@dataclass(frozen=True)
class _Needs:
    """What the entries of a store are needed for."""

    contents: Mapping[EntryKind, Sequence[Path]]
    kept: Collection[str]
    unfinished: Mapping[str, str]
    """Why unfinished work needs an entry, by its name."""
    earlier: Mapping[str, str]
    """The run that used an entry, by its name."""

    @classmethod
    def of(cls, home: Path, keep_runs: int) -> "_Needs":
        records = RunRecords(home)
        kept = records.artifacts_of_last(keep_runs) | used_builds(home)
        unfinished = dict.fromkeys(kept, "an artifact in use, being made again")
        for run in records.unfinished():
            unfinished |= dict.fromkeys(run.artifacts, f"{run}, unfinished")
        oldest_first = reversed(records.all())
        earlier = {name: f"{run}, superseded" for run in oldest_first for name in run.artifacts}
        return cls(Store(home).contents(), kept, unfinished, earlier)

    def keeps(self, place: EntryKind, name: str) -> bool:
        return place in ("artifact", "freed") and name in self.kept

    def judged(self, place: EntryKind, name: str) -> tuple[str, bool]:
        """Return why an entry can be removed, and whether unfinished work needs it.

        Beside `<key>` staging may have `<key>.fetched` and the like: transfers of the same work.
        """
        name = name.partition(".")[0]
        if place == "corrupt":
            return "set aside when it was found", False
        if place == "trash":
            return "it was being removed", False
        if place == "staging" and name in {path.name for path in self.contents["artifact"]}:
            return "the artifact was made since", False
        if name in self.unfinished:
            return self.unfinished[name], True
        if name in self.earlier:
            return self.earlier[name], False
        return "no rebuild on record uses it", place == "staging"


def _entries(
    contents: Mapping[EntryKind, Sequence[Path]],
) -> Iterator[tuple[EntryKind, Path]]:
    yield from ((place, path) for place, paths in contents.items() for path in paths)


def _items(found: Mapping[Path, tuple[EntryKind, str]]) -> tuple[PrunableItem, ...]:
    bytes_of = [gain.freed_bytes for gain in gains(list(found))]
    return tuple(
        PrunableItem(path, _KINDS[place], reason, freed)
        for (path, (place, reason)), freed in zip(found.items(), bytes_of, strict=True)
    )


def _held_items(
    held: Mapping[Path, tuple[EntryKind, str]], going: Mapping[Path, tuple[EntryKind, str]]
) -> tuple[PrunableItem, ...]:
    """Return what is held, with the bytes that it frees beyond those that are freed anyway."""
    return _items({**going, **held})[len(going) :]


def _same_disk(where: str | None, home: Path) -> bool:
    """Return whether the error is about the store's disk; one that names no place is."""
    if where is None:
        return True
    return "://" not in where and _device(Path(where)) == _device(home)


def _device(path: Path) -> int:
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return existing.stat().st_dev
