"""Examples in a file: tokenized once, then read by every training process without a copy.

One safetensors file holds all tokens one after another, their labels, and where each example
begins. It is written in bounded memory, however many there are. The invariant: the file holds what
every conversation gave, in their order, except for conversations of which not even the first answer
fits; those are counted, never silent.
"""

import json
import shutil
import tempfile
from array import array
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from tasks.core.conversation.labels import Example
from tasks.core.errors import DataError
from tasks.core.files import CHUNK_BYTES, TEMPORARY, fsync_directory, fsync_file


@dataclass(frozen=True)
class ExampleCounts:
    """What became of the conversations."""

    conversations: int
    too_long_conversations: int
    too_long_answers: int
    tokens: int
    learned_tokens: int

    @property
    def examples(self) -> int:
        """How many conversations can be learned from."""
        return self.conversations - self.too_long_conversations


class ExampleWriter:
    """Takes examples one after another; `finish` makes the file, whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open = ExitStack()
        self._input_ids, self._labels = self._temporary(), self._temporary()
        self._starts = array("q", [0])
        self._too_long = self._too_long_answers = self._learned = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, example: Example) -> None:
        """Take the next example; an empty one is only counted."""
        self._too_long_answers += example.dropped_answers
        if not example.input_ids:
            self._too_long += 1
            return
        self._input_ids.write(array("i", example.input_ids).tobytes())
        self._labels.write(array("i", example.labels).tobytes())
        self._starts.append(self._starts[-1] + len(example.input_ids))
        self._learned += example.learned_tokens

    @property
    def counts(self) -> ExampleCounts:
        """What became of the conversations so far."""
        return ExampleCounts(
            conversations=len(self._starts) - 1 + self._too_long,
            too_long_conversations=self._too_long,
            too_long_answers=self._too_long_answers,
            tokens=self._starts[-1],
            learned_tokens=self._learned,
        )

    def finish(self) -> ExampleCounts:
        """Write the file. Raises DataError when nothing is left to learn."""
        if not self.counts.examples:
            raise DataError(
                "Nothing is left to learn.",
                where=self._path.name,
                **self._cause(),
            )
        starts = self._temporary()
        starts.write(self._starts.tobytes())
        tensors = {
            "starts": ("I64", len(self._starts), starts),  # first: it must lie at 8 bytes
            "input_ids": ("I32", self._starts[-1], self._input_ids),
            "labels": ("I32", self._starts[-1], self._labels),
        }
        partial = self._path.with_name(TEMPORARY + self._path.name)
        with partial.open("wb") as out:
            _write_safetensors(out, tensors)
        fsync_file(partial)
        partial.rename(self._path)
        fsync_directory(self._path.parent)
        return self.counts

    def _cause(self) -> dict[str, str]:
        if not self._too_long:
            return {"found": "no conversation", "next_step": "Bring conversations to learn from."}
        return {
            "found": f"{self._too_long} conversations, and in none the first answer fits whole",
            "next_step": "Raise finetune.max_length_tokens, or take shorter conversations.",
        }

    def _temporary(self) -> IO[bytes]:
        return self._open.enter_context(
            tempfile.TemporaryFile(dir=self._path.parent, prefix=TEMPORARY)
        )


def _write_safetensors(out: IO[bytes], tensors: Mapping[str, tuple[str, int, IO[bytes]]]) -> None:
    """Write vectors, given as (dtype, length, little-endian bytes), in the safetensors format.

    The library's own `save` wants all of them in memory at once.
    Source: https://huggingface.co/docs/safetensors, "Format".
    """
    header: dict[str, object] = {}
    at = 0
    for name, (dtype, length, content) in tensors.items():
        size = content.seek(0, 2)
        header[name] = {"dtype": dtype, "shape": [length], "data_offsets": [at, at + size]}
        at += size
    described = json.dumps(header).encode()
    described += b" " * (-len(described) % 8)
    out.write(len(described).to_bytes(8, "little") + described)
    for _, _, content in tensors.values():
        content.seek(0)
        shutil.copyfileobj(content, out, CHUNK_BYTES)
