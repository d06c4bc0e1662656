"""Records that say again what an earlier one said, found in a file of any size.

Pairs are found by banding the signatures (`signatures`: MinHash over five words). They lie
in a temporary file, 340 bytes a record; in memory stand about 20 bytes a record, for one band at a
time. A library that keeps its index in memory, such as datasketch, takes some kilobytes a
record. The invariant: of records that are alike, the first one is never named a duplicate.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tasks.core.conversation.lengths import Size
from tasks.core.conversation.signatures import HASHES, RECORD, Signed, mixed

SIMILAR = 0.8
"""Share of common five-word sequences (Jaccard) from which on two records are near duplicates."""

# 16 bands of 8: of pairs that share 0.9 of their sequences 99.99% meet in a band, of those that
# share 0.8 95%, of those that share 0.5 6%; the estimate over all 128 then decides.
_BANDS = 16
_ROWS = HASHES // _BANDS
_RECORDS_AT_ONCE = 1 << 14
_TRIED = 16
"""How many of the records that meet a later one in a band are compared with it."""


@dataclass(frozen=True)
class Duplicate:
    """A record that says what the record at `original_position` has said before.

    Ids are cut after 48 bytes.
    """

    position: int
    id: str
    original_position: int
    original_id: str
    exact: bool
    size: Size


class DuplicateFinder:
    """Takes records one after another, and names the duplicates at the end."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="kawan-usaha-signatures-")  # noqa: SIM115 - closed by __exit__
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, records: Signed, before: int = 0) -> None:
        """Take the next records, whose positions count from behind so many others."""
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
        """Yield each record behind the first `count` that says what one of those says.

        Only those are its originals, and one with the same words goes before one that is near.
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
                for earlier in order[starts[later] : stops[later]][:_TRIED].tolist():
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
        """Return one number a record, equal where the words are."""
        return np.concatenate([part["content"] for part in self._parts()])

    def _keys(self, band: int) -> NDArray[np.uint64]:
        """Return one number a record, equal where the band's part of the signature is equal."""
        keys = np.empty(self._count, dtype=np.uint64)
        start = 0
        for part in self._parts():
            signatures = part["signature"][:, band * _ROWS : (band + 1) * _ROWS]
            halves = np.ascontiguousarray(signatures).view(np.uint64)  # (n, 2)
            keys[start : start + len(part)] = mixed(mixed(halves[:, 0]) + halves[:, 1])
            start += len(part)
        return keys

    def _parts(self) -> Iterator[NDArray[np.void]]:
        """Yield all records as they were added, a piece at a time."""
        self._file.seek(0)
        for _ in range(0, max(1, self._count), _RECORDS_AT_ONCE):
            data = self._file.read(_RECORDS_AT_ONCE * RECORD.itemsize)
            yield np.frombuffer(data, RECORD)

    def _compare(self, keys: NDArray[np.uint64], original: NDArray[np.int32]) -> None:
        """Note for each record an earlier one of the same key, where the two are alike."""
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
    """Yield the places in order whose key stands beside an equal one, a piece at a time."""
    for start in range(0, len(order), _RECORDS_AT_ONCE):
        stop = min(len(order), start + _RECORDS_AT_ONCE)
        piece = keys[order[max(0, start - 1) : stop + 1]]
        same = np.concatenate(([False], piece[1:] == piece[:-1], [False]))
        grouped = (same[:-1] | same[1:])[start > 0 :][: stop - start]
        yield from (start + np.flatnonzero(grouped)).tolist()
