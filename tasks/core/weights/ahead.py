"""A merge that begins before its inputs are whole: a shard as soon as the bytes for it are there.

Covers the sums and the order of work; what there is of the inputs tells an `Arriving`, and the plan
comes from headers that were asked for first. Reads bytes that are not checked yet, so a shard that
is made of them is recorded in the journal only when each file that it was made of has been found
right, in the very turn that was read, with the header that the plan was made from. What is not
recorded is nothing: the merge proper, which follows, makes it anew.

The invariant: an entry in the journal says the same as one of a merge that began at the end.
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
from tasks.core.weights.merge import Contents, MergePlan, sum_in, work_of
from tasks.core.weights.reader import TensorReader
from tasks.core.weights.safetensors_header import span_elements
from tasks.core.weights.stream import stream, tally_of
from tasks.core.weights.writer import ShardedWriter

logger = logging.getLogger(__name__)


class Arriving(Protocol):
    """A model directory on its way here, as its download tells of it; see `hub.coming`."""

    def there(self, name: str) -> tuple[int, int]:
        """Return the turn of a file, and how many bytes of it are there, from the first one on."""

    def proven(self, name: str) -> bool:
        """Return whether all bytes of a file were found right, in its turn of now."""

    def places(self, name: str) -> tuple[Path, ...]:
        """Return under which names a file may be found now, the first one that exists."""


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
    nothing to do, and returns False when nothing more will come. Raises DiskFull, before the first
    byte; whatever else is wrong is left to the merge proper to find and to tell.
    """
    work = work_of(plan, contents)
    spare_bytes = companion_bytes(plan.companions) + missing_bytes
    make_directory(out)
    with ExitStack() as stack:
        readers = tuple(
            stack.enter_context(_ArrivingReader(index, each))
            for index, each in zip((plan.base, plan.delta), arriving, strict=True)
        )
        writer = stack.enter_context(
            ShardedWriter(out, plan.layout, work.identity(), spare_bytes, record="when told")
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
    """Make each shard once its bytes are there; yield its name once they were found right."""
    made = _Made(readers)
    while todo or made.files:
        ready = [shard for shard in todo if all(reader.has(shard) for reader in readers)]
        if ready:
            todo = [shard for shard in todo if shard not in ready]
            made.note(ready)
            add(ready)
        yield from made.proven()
        if not ready and not wait():
            return


class _ArrivingReader(TensorReader):
    """Reads tensors whose bytes are there, from files that are opened once there is something.

    A file stays the one that was opened, whatever it is called later.
    """

    def __init__(self, index: ModelIndex, arriving: Arriving) -> None:
        super().__init__(index)
        self._arriving = arriving
        self._turns: dict[str, int] = {}
        self._right: dict[str, bool] = {}

    def __enter__(self) -> "_ArrivingReader":
        return self

    def has(self, shard: Shard) -> bool:
        """Return whether all that a shard is made of can be read now. Not while it is read from."""
        ends: dict[str, int] = {}
        for slot in shard.slots:
            entry = self.index.tensors[slot.name]
            span = span_elements(entry.shape, entry.stride) * ITEM_BYTES[entry.dtype]
            ends[entry.file] = max(ends.get(entry.file, 0), entry.offset + span)
        return all(self._holds(file, end) for file, end in ends.items())

    def turns(self, shard: Shard) -> dict[str, int]:
        """Return the turn of each file that a shard is made of."""
        files = {self.index.tensors[slot.name].file for slot in shard.slots}
        return {file: self._turns[file] for file in files}

    def proves(self, file: str, turn: int) -> bool | None:
        """Return whether a file was right in this turn, None while that is not known."""
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
            with suppress(FileNotFoundError):  # not the name of now, or renamed in between
                opened = InputFile(place)
                if self._arriving.there(file)[0] != turn:
                    opened.close()
                    return False
                self._files[file], self._turns[file] = opened, turn
                return True
        return False

    def _has_the_header(self, file: str) -> bool | None:
        """Return whether a whole file has the tensors that the plan takes it to have."""
        if file not in self._right:
            planned = {entry for entry in self.index.tensors.values() if entry.file == file}
            for place in self._arriving.places(file):
                with suppress(FileNotFoundError):
                    found = entries_of(place, self.index.format, file)
                    self._right[file] = set(found) == planned
                    break
        return self._right.get(file)


@dataclass
class _Made:
    """Shards that are written, and from which turns of which files."""

    readers: Sequence[_ArrivingReader]
    files: dict[str, list[tuple[_ArrivingReader, str, int]]] = field(default_factory=dict)

    def note(self, shards: Sequence[Shard]) -> None:
        """Take down what these shards are about to be made of."""
        for shard in shards:
            self.files[shard.file] = [
                (reader, file, turn)
                for reader in self.readers
                for file, turn in reader.turns(shard).items()
            ]

    def proven(self) -> list[str]:
        """Return the shards whose inputs were right; forget them, and those that were not."""
        found = []
        for shard, sources in list(self.files.items()):
            proofs = [reader.proves(file, turn) for reader, file, turn in sources]
            if False in proofs:
                del self.files[shard]
            elif None not in proofs:
                del self.files[shard]
                found.append(shard)
        return found
