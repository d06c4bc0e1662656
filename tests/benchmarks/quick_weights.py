"""A small form of the benchmark of weights: our time over the limit's or the peer's.

In one process, so that no import is measured; each prints a line
{"row": ..., "of": ..., "ratio": ...} with the median of a few rounds.
"""

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.utils import disable_progress_bars

from tasks.core.files.digests import digests_of
from tasks.core.hub.client import api
from tasks.core.weights.fuse import fuse_adapter
from tasks.core.weights.merge import merge_delta
from tests.benchmarks.contenders import limit, shards_of
from tests.benchmarks.llama_weights import Shape, make_adapter, make_model
from tests.benchmarks.measure import evict
from tests.benchmarks.upload_contenders import (
    DIGESTS,
    REPO,
    empty_hub,
    upload_model,
    write_digests,
)

_SHAPE = Shape(hidden=1024, layers=16, intermediate=4096, heads=16)
"""670 MB in float16: a second of a disk, so that a file's opening does not count."""
_SHARD_BYTES = 128 << 20
_ROUNDS = 3


@dataclass(frozen=True)
class _Row:
    name: str
    of: str
    ours: Callable[[], object]
    other: Callable[[], object]
    uploads: bool = False


def main() -> None:
    """Print the ratios."""
    disable_progress_bars()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=Path.cwd()) as name:
        work = Path(name)
        for part, seed, scale, norm in (("base", 1, 0.02, 1.0), ("delta", 2, 0.002, 0.0)):
            make_model(
                work / part, _SHAPE, seed=seed, scale=scale, norm=norm, shard_bytes=_SHARD_BYTES
            )
        make_adapter(work / "adapter", _SHAPE)
        write_digests(work / "base")
        for row in _rows(work):
            print(json.dumps({"row": row.name, "of": row.of, "ratio": _ratio(row, work)}))


def _rows(work: Path) -> list[_Row]:
    base, delta, adapter, out = (work / name for name in ("base", "delta", "adapter", "out"))
    shards = shards_of(base)

    def command(*words: str) -> Callable[[], object]:
        return lambda: subprocess.run(words, check=True)

    def written(function: Callable[..., object], other: Path) -> Callable[[], object]:
        return lambda: function(base, other, out, max_shard_bytes=_SHARD_BYTES)

    def upload_by_hf() -> None:
        api().create_repo(REPO, private=True)
        api().upload_folder(repo_id=REPO, folder_path=base)

    return [
        _Row("merge", "cat+cp", written(merge_delta, delta), command(*limit(out, base, delta))),
        _Row("fuse", "cat+cp", written(fuse_adapter, adapter), command(*limit(out, base, adapter))),
        _Row(
            "hash",
            "sha256sum",
            lambda: digests_of([Path(shard) for shard in shards]),
            lambda: subprocess.run(["sha256sum", *shards], check=True, stdout=subprocess.DEVNULL),
        ),
        _Row(
            "upload",
            "hf upload",
            lambda: upload_model(base, work / DIGESTS),
            upload_by_hf,
            uploads=True,
        ),
    ]


def _ratio(row: _Row, work: Path) -> float:
    """Return the median of the rounds, in each of which both come, one after the other."""
    ratios = []
    for _ in range(_ROUNDS):
        ours, other = (_wall_s(step, row, work) for step in (row.ours, row.other))
        ratios.append(ours / other)
    return round(statistics.median(ratios), 3)


def _wall_s(step: Callable[[], object], row: _Row, work: Path) -> float:
    """Return what a step takes to the disk, its inputs not in the page cache."""
    evict([work / name for name in ("base", "delta", "adapter")])
    with empty_hub(work / "hub") if row.uploads else nullcontext():
        start = time.perf_counter()
        step()
        os.sync()
        wall_s = time.perf_counter() - start
    shutil.rmtree(work / "out", ignore_errors=True)
    return wall_s
