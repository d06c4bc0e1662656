"""What a finished write hands back: the files with their digests, computed as they were written."""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.core.files.digests import FileDigest


@dataclass(frozen=True)
class WrittenModel:
    """A model directory that is whole: every file that was written, and what the weights are."""

    files: Mapping[str, FileDigest]
    tensors: int
    parameters: int
    weight_bytes: int
    shards_written: int
    shards_kept: int
