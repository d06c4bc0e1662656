"""A merge that starts before its inputs are complete: a shard as soon as its bytes have arrived.

Covers the sums and the order of work; an `Arriving` says what has arrived of an input, and the plan
comes from headers that were fetched first. Reads bytes that are not verified yet, so a shard made
of them is recorded in the journal only once each of its input files has been verified, in the very
download attempt that was read, with the header that the plan was made from. A shard that is not
recorded does not count: the merge proper, which follows, makes it again.

The invariant: an entry in the journal is the same as in a merge that started after the downloads.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tasks.core.errors import DiskFull, KawanUsahaError
from tasks.core.files.digests import FileDigest
from tasks.core.files.durable import make_directory
from tasks.core.progress import OnProgress, silent
from tasks.core.weights.companions import companion_bytes
from tasks.core.weights.direct import InputFile
from tasks.core.weights.dtypes import ITEM_BYTES, STORED, torch_dtype
from tasks.core.weights.index import ModelIndex, entries_of
from tasks.core.weights.layout import Shard
from tasks.core.weights.merge import Contents, MergePlan, merge_work, sum_in
from tasks.core.weights.reader import TensorReader
from tasks.core.weights.safetensors_header import span_elements
from tasks.core.weights.stream import stream, tally_of
from tasks.core.weights.writer import ShardedWriter

logger = logging.getLogger(__name__)


class Arriving(Protocol):
    """A model directory that is being downloaded; see `hub.download.incoming`."""

    def there(self, name: str) -> tuple[int, int]:
        """Return the download attempt of a file, and how many of its first bytes have arrived."""

    def proven(self, name: str) -> bool:
        """Return whether the current download attempt of a file is complete and verified."""

    def places(self, name: str) -> tuple[Path, ...]:
        """Return the paths where a file may be now; the first that exists is the file."""


def merge_ahead(
    plan: MergePlan,
    arriving: tuple[Arriving, Arriving],
    contents: tuple[Contents, Contents],
    out: Path,
    *,
    missing_bytes: int = 0,
    threads: int | None = None,
    on_progress: OnProgress = silent,
    wait: Callable[[], bool],
) -> Mapping[str, FileDigest]:
    """Return the shards of the plan that are finished in out, once no more can be done ahead.

    missing_bytes of the inputs will be written to the same disk. wait is called when there is
    nothing to do, and returns False when nothing more will arrive. Raises DiskFull, before the
    first byte; all other faults are left to the merge proper to detect and report.
    """
    work = merge_work(plan, contents)
    spare_bytes = companion_bytes(plan.companions) + missing_bytes
    make_directory(out)
    with ExitStack() as stack:
        readers = tuple(
            stack.enter_context(_ArrivingReader(index, each))
            for index, each in zip((plan.base, plan.delta), arriving, strict=True)
        )
        writer = stack.enter_context(
            ShardedWriter(out, plan.layout, work.identity(), spare_bytes, record="on request")
        )
        recorded = set(writer.kept)
        tally = tally_of(writer, on_progress)

        def add(shards: Sequence[Shard]) -> None:
            function = sum_in(torch_dtype(STORED[plan.dtype]))
            stream(readers, function, writer, threads=threads, tally=tally, shards=shards)

        todo = [shard for shard in plan.layout.shards if shard.file not in writer.kept]
        try:
            for file in _proven(readers, todo, add, wait):
                writer.record(file)
                recorded.add(file)
        except DiskFull:
            raise
        except (KawanUsahaError, OSError) as error:
            logger.info("The merge waits for the end of the downloads: %s", error)
        return {file: writer.finished[file] for file in recorded}


def _proven(
    readers: Sequence["_ArrivingReader"],
    todo: Sequence[Shard],
    add: Callable[[Sequence[Shard]], None],
    wait: Callable[[], bool],
) -> Iterator[str]:
    """Make each shard once its bytes have arrived; yield its name once they are verified."""
    made = _UnverifiedShards(readers)
    is_over = False
    while todo or made.files:
        ready = [shard for shard in todo if all(reader.has(shard) for reader in readers)]
        if ready:
            todo = [shard for shard in todo if shard not in ready]
            made.note(ready)
            add(ready)
        yield from made.take_verified()
        if ready or not (todo or made.files):
            continue
        if is_over:
            return
        is_over = not wait()  # then what arrived last is looked at once more


class _ArrivingReader(TensorReader):
    """Reads tensors whose bytes have arrived, from files that are opened once they exist.

    An opened file stays the same, even if it is renamed later.
    """

    def __init__(self, index: ModelIndex, arriving: Arriving) -> None:
        super().__init__(index)
        self._arriving = arriving
        self._turns: dict[str, int] = {}
        self._right: dict[str, bool] = {}

    def __enter__(self) -> "_ArrivingReader":
        return self

    def has(self, shard: Shard) -> bool:
        """Return whether a shard's input can be read now. Not to be called during a read."""
        ends: dict[str, int] = {}
        for slot in shard.slots:
            entry = self.index.tensors[slot.name]
            span = span_elements(entry.shape, entry.stride) * ITEM_BYTES[entry.dtype]
            ends[entry.file] = max(ends.get(entry.file, 0), entry.offset + span)
        return all(self._holds(file, end) for file, end in ends.items())

    def turns(self, shard: Shard) -> dict[str, int]:
        """Return the download attempt of each file that a shard is made of."""
        files = {self.index.tensors[slot.name].file for slot in shard.slots}
        return {file: self._turns[file] for file in files}

    def proves(self, file: str, turn: int) -> bool | None:
        """Return whether this download attempt of a file is verified, None while unknown."""
        if self._arriving.there(file)[0] != turn:
            return False
        return self._has_the_header(file) if self._arriving.proven(file) else None

    def _holds(self, file: str, end: int) -> bool:
        turn, size_bytes = self._arriving.there(file)
        if size_bytes < end:
            return False
        if self._turns.get(file) != turn and file in self._files:
            self._files.pop(file).close()
        return file in self._files or self._opened(file, turn)

    def _opened(self, file: str, turn: int) -> bool:
        for place in self._arriving.places(file):
            with suppress(FileNotFoundError):  # not under this name now, or just renamed
                opened = InputFile(place)
                if self._arriving.there(file)[0] != turn:
                    opened.close()
                    return False
                self._files[file], self._turns[file] = opened, turn
                return True
        return False

    def _has_the_header(self, file: str) -> bool | None:
        """Return whether a complete file has the tensors that the plan assumes."""
        if file not in self._right:
            planned = {entry for entry in self.index.tensors.values() if entry.file == file}
            for place in self._arriving.places(file):
                with suppress(FileNotFoundError):
                    found = entries_of(place, self.index.format, file)
                    self._right[file] = set(found) == planned
                    break
        return self._right.get(file)


@dataclass
class _UnverifiedShards:
    """Shards that are written, and the download attempts of the files that they were made of."""

    readers: Sequence[_ArrivingReader]
    files: dict[str, list[tuple[_ArrivingReader, str, int]]] = field(default_factory=dict)

    def note(self, shards: Sequence[Shard]) -> None:
        """Note what these shards are about to be made of."""
        for shard in shards:
            self.files[shard.file] = [
                (reader, file, turn)
                for reader in self.readers
                for file, turn in reader.turns(shard).items()
            ]

    def take_verified(self) -> list[str]:
        """Return the shards whose inputs are verified; drop them, and those with wrong inputs."""
        found = []
        for shard, sources in list(self.files.items()):
            proofs = [reader.proves(file, turn) for reader, file, turn in sources]
            if False in proofs:
                del self.files[shard]
            elif None not in proofs:
                del self.files[shard]
                found.append(shard)
        return found
