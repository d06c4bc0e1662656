"""Which records of rebuilds can go because later ones say the same: a schedule leaves one per run.

The invariant: the answers of `runs` are the same without them: what the last runs and all releases
used, what unfinished work needs, the recipe of the last release, the last commit of each source.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tasks.core.store.run_record import RunRecord, is_superseded, needs_all_of
from tasks.core.store.runs import RunRecords

KEPT_RECORDS = 20
"""So many records of each recipe stay in any case, of finished runs and of others."""

_Records = Mapping[Path, RunRecord]


def forget_repetitions(records: RunRecords, but: Collection[str] = ()) -> None:
    """Remove the records that later ones make redundant, except the files of these names.

    One that cannot be removed now is left for the next run.
    """
    for path in repetitions(records.by_path()):
        if path.name not in but:
            with suppress(OSError):
                path.unlink()


def repetitions(records: _Records, kept: int = KEPT_RECORDS) -> list[Path]:
    """Return the records that can go."""
    latest = sorted(records, key=lambda path: records[path].ended_at, reverse=True)
    finished = [path for path in latest if records[path].finished_at is not None]
    others = [path for path in latest if records[path].finished_at is None]
    stays = {
        *_changes_of_release(records),
        *_last_releases(records),
        *_last_of_sources(latest, records),
    }
    can_go = [*_beyond(kept, finished, records)]
    can_go += [p for p in _beyond(kept, others, records) if _needs_nothing(p, others, records)]
    return [path for path in can_go if path not in stays]


def _beyond(kept: int, latest: Sequence[Path], records: _Records) -> Iterator[Path]:
    """Yield records that are followed by so many runs of their recipe that went at least as far."""
    reaches: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for path in latest:
        record = records[path]
        later = reaches[record.recipe]
        if sum(count for reach, count in later.items() if reach >= record.reach) >= kept:
            yield path
        later[record.reach] += 1


def _changes_of_release(records: _Records) -> Iterator[Path]:
    """Yield the records whose release differs from that of the run before."""
    last: dict[str, tuple[str | None, ...]] = {}
    for path in sorted(
        records, key=lambda path: records[path].released_at or records[path].ended_at
    ):
        record = records[path]
        if record.released is not None and last.get(record.recipe) != record.release:
            last[record.recipe] = record.release
            yield path


def _last_releases(records: _Records) -> Iterator[Path]:
    """Yield the record of each recipe's last release, which holds the recipe that built it."""
    last = dict[str, Path]()
    for path in sorted(
        records, key=lambda path: records[path].released_at or records[path].ended_at
    ):
        if records[path].released is not None:
            last[records[path].recipe] = path
    yield from last.values()


def _last_of_sources(latest: Sequence[Path], records: _Records) -> Iterator[Path]:
    """Yield the last record that has a commit of each source."""
    seen: set[str] = set()
    for path in sorted(latest, key=lambda path: records[path].began_at, reverse=True):
        if not seen.issuperset(records[path].commits):
            seen.update(records[path].commits)
            yield path


def _needs_nothing(path: Path, others: Sequence[Path], records: _Records) -> bool:
    """Return whether an unfinished run is superseded, or a later one needs all that it needs."""
    record = records[path]
    if is_superseded(record, records.values()):
        return True
    later = others[: others.index(path)]
    return any(needs_all_of(records[each], record) for each in later)
