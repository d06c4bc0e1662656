"""Duplicates and near duplicates of earlier records, found in any number of records.

Pairs are found by banding the signatures (`signatures`: MinHash over five words). Signatures lie in
a temporary file, 340 bytes per record; about 20 bytes per record are in memory, for one band at a
time. A library that keeps its index in memory, such as datasketch, takes some kilobytes per record.
The invariant: of records that are alike, the first is never reported as a duplicate.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tasks.core.conversation.checking.lengths import Size
from tasks.core.conversation.checking.signatures import HASHES, RECORD, Signed, mixed

SIMILAR = 0.8
"""Records that share at least this much of their five-word sequences are near duplicates."""

# 16 bands of 8: of pairs with a Jaccard index of 0.9, 99.99% meet in a band; of 0.8, 95%; of 0.5,
# 6%. The estimate over all 128 values then decides.
_BANDS = 16
_ROWS = HASHES // _BANDS
_BATCH_RECORDS = 1 << 14
_MAX_COMPARED = 16
"""How many earlier records of the same band a record is compared with."""


@dataclass(frozen=True)
class Duplicate:
    """A record that repeats the one at `original_position`. Ids are cut after 48 bytes."""

    position: int
    id: str
    original_position: int
    original_id: str
    exact: bool
    size: Size


class DuplicateFinder:
    """Takes records one after another, and reports the duplicates at the end."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="kawan-usaha-signatures-")  # noqa: SIM115 - closed by __exit__
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, records: Signed, before: int = 0) -> None:
        """Take the next records; `before` is the number of positions that come before theirs."""
        moved = records.copy()
        moved["position"] += np.uint64(before)
        self._file.write(moved.tobytes())
        self._count += len(records)

    def duplicates(self) -> Iterator[Duplicate]:
        """Yield every duplicate once, in the order of the records."""
        self._file.flush()
        original = np.full(self._count, -1, dtype=np.int32)
        for band in range(_BANDS):
            self._compare(self._keys(band), original)
        yield from self._found(original)

    def repeated_from(self, count: int) -> Iterator[Duplicate]:
        """Yield each record after the first `count` that repeats one of those.

        An exact duplicate is preferred to a near one as the original.
        """
        self._file.flush()
        original = np.full(self._count, -1, dtype=np.int32)
        for band in (None, *range(_BANDS)):
            keys = self._contents() if band is None else self._keys(band)
            order = np.argsort(keys[:count], kind="stable")
            ordered = keys[:count][order]
            starts = np.searchsorted(ordered, keys[count:], "left")
            stops = np.searchsorted(ordered, keys[count:], "right")
            for later in np.flatnonzero((original[count:] < 0) & (starts < stops)).tolist():
                for earlier in order[starts[later] : stops[later]][:_MAX_COMPARED].tolist():
                    if self._alike(earlier, count + later):
                        original[count + later] = earlier
                        break
        yield from self._found(original)

    def _found(self, original: NDArray[np.int32]) -> Iterator[Duplicate]:
        for index in np.flatnonzero(original >= 0).tolist():
            copy, first = self._read(index), self._read(int(original[index]))
            yield Duplicate(
                int(copy["position"]),
                _text(copy["id"]),
                int(first["position"]),
                _text(first["id"]),
                exact=bool(copy["content"] == first["content"]),
                size=Size(*copy["size"].tolist()),
            )

    def _contents(self) -> NDArray[np.uint64]:
        """Return a number per record, equal for equal texts."""
        return np.concatenate([part["content"] for part in self._parts()])

    def _keys(self, band: int) -> NDArray[np.uint64]:
        """Return a number per record, equal for equal values in this band of the signature."""
        keys = np.empty(self._count, dtype=np.uint64)
        start = 0
        for part in self._parts():
            signatures = part["signature"][:, band * _ROWS : (band + 1) * _ROWS]
            halves = np.ascontiguousarray(signatures).view(np.uint64)  # (n, 2)
            keys[start : start + len(part)] = mixed(mixed(halves[:, 0]) + halves[:, 1])
            start += len(part)
        return keys

    def _parts(self) -> Iterator[NDArray[np.void]]:
        """Yield all records in the order they were added, some at a time."""
        self._file.seek(0)
        for _ in range(0, max(1, self._count), _BATCH_RECORDS):
            data = self._file.read(_BATCH_RECORDS * RECORD.itemsize)
            yield np.frombuffer(data, RECORD)

    def _compare(self, keys: NDArray[np.uint64], original: NDArray[np.int32]) -> None:
        """Set the original of each record that is like an earlier one with the same key."""
        order = np.argsort(keys, kind="stable")
        first = before = -1
        for place in _places_in_groups(keys, order):
            index = int(order[place])
            if place == 0 or keys[order[place - 1]] != keys[index]:
                first = before = index
                continue
            for other in (first, before) if original[index] < 0 else ():
                if self._alike(other, index):
                    earlier = int(original[other])
                    original[index] = earlier if earlier >= 0 else other
                    break
            before = index

    def _alike(self, one: int, other: int) -> bool:
        a, b = self._read(one)["signature"], self._read(other)["signature"]
        return float(np.mean(a == b)) >= SIMILAR

    def _read(self, index: int) -> np.void:
        self._file.seek(index * RECORD.itemsize)
        return np.frombuffer(self._file.read(RECORD.itemsize), RECORD)[0]  # type: ignore[no-any-return]


def _text(cut: bytes) -> str:
    return cut.decode("utf-8", "ignore")


def _places_in_groups(keys: NDArray[np.uint64], order: NDArray[np.intp]) -> Iterator[int]:
    """Yield the indices into order whose key equals a neighbour's."""
    for start in range(0, len(order), _BATCH_RECORDS):
        stop = min(len(order), start + _BATCH_RECORDS)
        piece = keys[order[max(0, start - 1) : stop + 1]]
        same = np.concatenate(([False], piece[1:] == piece[:-1], [False]))
        grouped = (same[:-1] | same[1:])[start > 0 :][: stop - start]
        yield from (start + np.flatnonzero(grouped)).tolist()
