"""Write a complete model directory from a plan: the shards as a stream, then the other files.

The last step of merge, fuse and convert. The invariant: when it returns, every file of the model is
on the disk and in the returned list, and the directory holds no other file.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tasks.core.files.digests import FileDigest
from tasks.core.files.durable import fsync_tree, make_directory
from tasks.core.files.listing import refuse
from tasks.core.files.output import WORK
from tasks.core.keys import digest
from tasks.core.progress import OnProgress
from tasks.core.weights.companions import Companions, companion_bytes, write_companions
from tasks.core.weights.index import ModelIndex
from tasks.core.weights.journal import DIRECTORY as JOURNAL
from tasks.core.weights.layout import INDEX_FILE, Layout
from tasks.core.weights.reader import TensorReader
from tasks.core.weights.stream import PieceFunction, stream, tally_of
from tasks.core.weights.writer import ShardedWriter

ENGINE_VERSION = 2
"""Increased when the same work would produce other bytes, so that no old journal is used."""


@dataclass(frozen=True)
class ProducedModel:
    """A complete model directory: the digest of each file, hashed as written, and the weights."""

    files: Mapping[str, FileDigest]
    tensors: int
    parameters: int
    weight_bytes: int
    shards_written: int
    shards_kept: int


@dataclass(frozen=True)
class WeightsWork:
    """What is computed from which inputs: the identity that a journal of finished shards names."""

    name: str
    inputs: tuple[ModelIndex, ...]
    layout: Layout
    parameters: str = ""
    contents: tuple[Mapping[str, FileDigest], ...] | None = None
    """The digests of each input's files, where they are known: then file times do not matter."""

    def identity(self) -> str:
        """Return a digest that changes whenever any shard could."""
        return digest(
            {
                "engine": ENGINE_VERSION,
                "work": self.name,
                "parameters": self.parameters,
                "inputs": [
                    index.identity(self.contents[number] if self.contents else None)
                    for number, index in enumerate(self.inputs)
                ],
                "shards": [[shard.file, shard.header.hex()] for shard in self.layout.shards],
            }
        )


def produce(
    work: WeightsWork,
    readers: Sequence[TensorReader],
    function: PieceFunction,
    companions: Companions,
    out: Path,
    *,
    threads: int | None,
    on_progress: OnProgress,
    finished: Mapping[str, FileDigest] | None = None,
) -> ProducedModel:
    """Write the model of work into the directory out; keep the shards that an attempt finished.

    Shards in `finished` were written by this process and are kept without reading them again.
    """
    layout = work.layout
    listing = layout.index_json()
    beside = {**companions, **({INDEX_FILE: listing.encode()} if listing else {})}
    make_directory(out)
    with ExitStack() as stack:
        for reader in readers:
            stack.enter_context(reader)
        writer = stack.enter_context(
            ShardedWriter(out, layout, work.identity(), companion_bytes(beside), finished=finished)
        )
        stream(readers, function, writer, threads=threads, tally=tally_of(writer, on_progress))
    files = {**writer.finished, **write_companions(out, beside)}
    _remove_strangers(out, files.keys() | {WORK})
    fsync_tree(out)
    writer.close_journal()
    return ProducedModel(
        files=dict(sorted(files.items())),
        tensors=sum(len(shard.slots) for shard in layout.shards),
        parameters=layout.parameters,
        weight_bytes=layout.total_bytes,
        shards_written=len(layout.shards) - len(writer.kept),
        shards_kept=len(writer.kept),
    )


def _remove_strangers(out: Path, own: Collection[str]) -> None:
    """Remove what this work did not write: it would count as the model's tokenizer or code.

    The journal is left to `close_journal`.
    """
    for place, below, names in os.walk(out, topdown=False, onerror=refuse):
        directory = Path(place)
        for name in [*names, *(n for n in below if (directory / n).is_symlink())]:
            path = directory / name
            relative = path.relative_to(out)
            if relative.as_posix() not in own and relative.parts[0] != JOURNAL:
                path.unlink()
        if directory != out and not any(directory.iterdir()):
            directory.rmdir()
