"""Retention: whole days are deleted, the oldest first, by age and by size.

The invariant: ratings and reviews of an answer are deleted before the answer, so that none outlives
it whenever the process is killed. Only on a full disk answers are deleted first, because the files
with ratings and reviews cannot be rewritten before there is room.
"""

import logging
import time
from collections.abc import Collection
from datetime import date, timedelta
from pathlib import Path

from tasks.core.collected.privacy.promises import promised
from tasks.core.collected.storage.directory import ALL_OVER, REVIEWS_FILE, day_files
from tasks.core.collected.storage.lines import Head, head_of, raw_lines
from tasks.core.collected.storage.rewriting import rewrite
from tasks.core.files.disk_space import disk_is_full
from tasks.core.files.durable import fsync_directory

_LOG = logging.getLogger(__name__)
_FAR = timedelta(days=2)
_WAIT_S = 3600.0


def keep_within(
    directory: Path,
    *,
    retention_days: int,
    max_bytes: int | None,
    today: date,
    coming_bytes: int = 0,
    makes_room: bool = True,
) -> bool:
    """Delete expired days; return whether coming_bytes have room. The caller holds the lock.

    A day expires after retention_days, or earlier if less was promised on it. With makes_room,
    further days are deleted while the files exceed max_bytes, except today and later days (from a
    wrong clock): if these fill the limit, nothing more has room. Raises OSError.
    """
    days = day_files(directory)
    over = _over(directory, days, retention_days, today)
    rest = [path for path in days if path not in over]
    sizes = {path: _size(path) for path in (*rest, directory / REVIEWS_FILE)}
    room = sum(sizes.values()) if max_bytes is None else max_bytes - coming_bytes
    room -= sum(sizes.values())
    while makes_room and room < 0 and rest and _day(rest[0]) < today:
        over.append(rest[0])
        room += sizes[rest.pop(0)]
    if over:
        _remove(directory, over, rest, today - timedelta(days=retention_days))
    return room >= 0


def _over(directory: Path, days: list[Path], retention_days: int, today: date) -> list[Path]:
    """Return the expired days; none if the clock seems to be wrong."""
    agreed = promised(directory)

    def last(path: Path) -> date:
        kept_days = min(retention_days, agreed.get(_day(path), retention_days))
        return _day(path) + timedelta(days=kept_days)

    over = [path for path in days if last(path) <= today]
    # Lines written since the clock went wrong do not confirm it.
    old = [path for path in days if _day(path) < today - timedelta(days=1)]
    if not over or not set(old) <= set(over) or today - max(map(last, over)) < _FAR:
        (directory / ALL_OVER).unlink(missing_ok=True)
        return over
    return [] if _waits(directory / ALL_OVER) else over


def _waits(since: Path) -> bool:
    """Return whether to wait before everything expires at once: a wrong clock is soon corrected."""
    try:
        age_s = time.time() - since.stat().st_mtime
    except FileNotFoundError:
        age_s = -1.0
    if age_s >= _WAIT_S:
        since.unlink(missing_ok=True)
        return False
    if age_s < 0:
        _LOG.warning("everything that is kept would expire at once: checked again in an hour")
        try:
            since.unlink(missing_ok=True)
            since.touch(0o600)
        except OSError as error:
            if not disk_is_full(error):
                raise
            return False
    return True


def _remove(directory: Path, over: list[Path], rest: list[Path], over_since: date) -> None:
    gone = {
        head.id
        for path in over
        for _, line in raw_lines(path)
        if (head := head_of(line)) is not None and head.kind == "answer"
    }
    try:
        _drop_opinions(directory, rest, gone, over_since)
    except OSError as error:
        if not disk_is_full(error):
            raise
        _unlink(directory, over)
        _drop_opinions(directory, rest, gone, over_since)
    _unlink(directory, over)


def _unlink(directory: Path, days: list[Path]) -> None:
    for path in days:
        if path.exists():
            path.unlink()
            _LOG.info("what was collected on %s has been removed", path.stem)
    fsync_directory(directory)


def _drop_opinions(
    directory: Path, days: list[Path], gone: Collection[str], over_since: date
) -> None:
    """Delete ratings and reviews of deleted answers. A review is never older than its answer."""

    def stays(line: bytes) -> bool:
        head = head_of(line)
        return head is None or head.kind == "answer" or not _is_over(head, gone, over_since)

    for path in (directory / REVIEWS_FILE, *days):
        if any(not stays(line) for _, line in raw_lines(path)):
            rewrite(path, stays)


def _is_over(head: Head, gone: Collection[str], over_since: date) -> bool:
    return head.id in gone or head.time.date() <= over_since


def _day(path: Path) -> date:
    return date.fromisoformat(path.stem)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
