"""Merge, fuse, hash and upload against FastChat, mergekit, PEFT, `hf` and the disk, side by side.

    python -m tests.benchmarks.bench_weights --size 160M --repeats 3 --workdir .benchmarks
    python -m tests.benchmarks.bench_weights --quick

Makes LLaMA-shaped weights of the size on the spot, runs every contender in a process of its own,
one round after the other, with the weights not in the page cache, and prints the medians.
Beside the table stand `weights-<size>.json` with every single run and `weights-<size>.png`.

The limit is what the disk allows: `cat` of both inputs, `cp` of a file as large as the output; for
a hash `cat` alone. The time of everyone ends when a sync of the disk has returned.

`--quick` is another, smaller measurement (`quick_weights`), whose ratios are printed as JSON lines.
"""

import argparse
import json
import math
import os
import platform
import shutil
import statistics
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from tasks.core.system.cores import usable_cores
from tasks.core.weights.dtypes import ITEM_BYTES
from tasks.core.weights.index import read_index
from tasks.core.weights.layout import PIECE_BYTES
from tasks.core.weights.reader import TensorReader
from tests.benchmarks import quick_weights
from tests.benchmarks.chart import draw
from tests.benchmarks.contenders import LIMIT, OURS, Contender, Inputs, contenders
from tests.benchmarks.llama_weights import SHAPES, make_adapter, make_model
from tests.benchmarks.measure import Run, evict, run
from tests.benchmarks.upload_contenders import empty_hub, write_digests


@dataclass(frozen=True)
class Row:
    """The medians of one contender, and its ratios to the limit and of ours to it."""

    kind: str
    name: str
    wall_s: float | None
    peak_bytes: int | None
    peak_anonymous_bytes: int | None
    of_limit: float | None
    ours_of_it: float | None
    note: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark that the command line describes."""
    options = _parse(arguments)
    if options.quick:
        quick_weights.main()
        return
    work = options.workdir.resolve()
    work.mkdir(parents=True, exist_ok=True)
    inputs = _inputs(work, options.size)
    everyone = contenders(inputs, work / "out", frozenset(options.only))
    runs = _rounds(everyone, inputs, options.repeats)
    rows = [_row(contender, runs) for contender in everyone]
    rows = [_with_ratios(row, rows) for row in rows]
    same = _same_bits(work)
    _publish(options, rows, runs, same=same)
    if not options.keep:
        shutil.rmtree(work / options.size)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=list(SHAPES), default="160M")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workdir", type=Path, default=Path(".benchmarks"))
    parser.add_argument(
        "--only", nargs="*", default=[], help="contenders: fuse-ours; or kinds; or names"
    )
    parser.add_argument("--quick", action="store_true", help="ratios alone, in half a minute")
    parser.add_argument("--keep", action="store_true", help="keep the weights for another run")
    return parser.parse_args(arguments)


def _inputs(work: Path, size: str) -> Inputs:
    home, shape = work / size, SHAPES[size]
    made = home / "made"
    if not made.exists():
        shutil.rmtree(home, ignore_errors=True)
        make_model(home / "base", shape, seed=1, scale=0.02, norm=1.0)
        make_model(home / "delta", shape, seed=2, scale=0.002, norm=0.0)
        make_adapter(home / "adapter", shape)
        write_digests(home / "base")
        made.touch()
    return Inputs(home / "base", home / "delta", home / "adapter", work)


def _rounds(everyone: list[Contender], inputs: Inputs, repeats: int) -> dict[str, list[Run]]:
    """Run everyone once a round, so that a change of the machine's mood meets all alike.

    The first results of ours and FastChat stay for the comparison of their bits.
    """
    runs: dict[str, list[Run]] = {contender.key: [] for contender in everyone}
    for number in range(repeats):
        for contender in everyone:
            if contender.absent:
                continue
            evict([inputs.base, inputs.delta, inputs.adapter])
            with empty_hub(inputs.work / "hub") if contender.kind == "upload" else nullcontext():
                result = run(list(contender.command), inputs.work / f"{contender.key}.log")
            runs[contender.key].append(result)
            print(f"round {number + 1}: {contender.key}: {result.wall_s:.2f} s", flush=True)
            _put_away(inputs.work, contender, keep=number == 0 and result.exit_code == 0)
    return runs


def _put_away(work: Path, contender: Contender, *, keep: bool) -> None:
    out, kept = work / "out", work / f"first-{contender.key}"
    if keep and contender.key in ("merge-ours", "merge-fastchat"):
        shutil.rmtree(kept, ignore_errors=True)
        out.rename(kept)
    shutil.rmtree(out, ignore_errors=True)


def _row(contender: Contender, runs: dict[str, list[Run]]) -> Row:
    done = [result for result in runs[contender.key] if result.exit_code == 0]
    failed = [result for result in runs[contender.key] if result.exit_code != 0]
    note = contender.absent or ""
    if failed:
        note = f"{len(failed)} failed, exit {failed[0].exit_code}: {failed[0].last_words}"
    if not done:
        return Row(contender.kind, contender.name, None, None, None, None, None, note)
    return Row(
        contender.kind,
        contender.name,
        statistics.median(result.wall_s for result in done),
        max(result.peak_bytes for result in done),
        max(result.peak_anonymous_bytes for result in done),
        None,
        None,
        note,
    )


def _with_ratios(row: Row, rows: list[Row]) -> Row:
    wall = {other.name: other.wall_s for other in rows if other.kind == row.kind}
    limit, ours = wall.get(LIMIT), wall.get(OURS)
    if row.wall_s is None:
        return row
    ratios = {
        "of_limit": row.wall_s / limit if limit else None,
        "ours_of_it": ours / row.wall_s if ours else None,
    }
    return Row(**{**asdict(row), **ratios})


def _same_bits(work: Path) -> bool | None:
    """Return whether ours and FastChat wrote the same tensors; None where one has no result."""
    kept = [work / "first-merge-ours", work / "first-merge-fastchat"]
    if not all(path.exists() for path in kept):
        for path in kept:
            shutil.rmtree(path, ignore_errors=True)
        return None
    one, other = map(read_index, kept)
    same = one.tensors.keys() == other.tensors.keys()
    with TensorReader(one) as ours, TensorReader(other) as theirs:
        for name, entry in one.tensors.items():
            count, step = math.prod(entry.shape), PIECE_BYTES // ITEM_BYTES[entry.dtype]
            same = same and entry.dtype == other.tensors[name].dtype
            for start in range(0, count if same else 0, step):
                span = (name, start, min(start + step, count))
                bits = (reader.read(*span).view(torch.uint8) for reader in (ours, theirs))
                same = same and torch.equal(*bits)
    for path in kept:
        shutil.rmtree(path)
    return same


def _publish(
    options: argparse.Namespace,
    rows: list[Row],
    runs: dict[str, list[Run]],
    *,
    same: bool | None,
) -> None:
    facts = {
        "size": options.size,
        "repeats": options.repeats,
        "page_cache": "weights evicted before each run, programs warm",
        "same_bits_as_fastchat": same,
        "cores": usable_cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    document = {
        **facts,
        "rows": [asdict(row) for row in rows],
        "runs": {key: [asdict(result) for result in results] for key, results in runs.items()},
    }
    stem = options.workdir / f"weights-{options.size}"
    stem.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    draw(
        rows,
        stem.with_suffix(".png"),
        title=f"{options.size} float16, medians of {options.repeats}",
    )
    print(_table(rows))
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))


def _table(rows: list[Row]) -> str:
    lines = [
        "| step | who | wall | peak memory | of it anonymous | x limit | ours / it | note |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        cells = [
            row.kind,
            row.name,
            _shown(row.wall_s, "{:.2f} s"),
            _shown(row.peak_bytes, "{:.2f} GB", 1e9),
            _shown(row.peak_anonymous_bytes, "{:.2f} GB", 1e9),
            _shown(row.of_limit, "{:.2f}"),
            _shown(row.ours_of_it, "{:.2f}"),
            row.note,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(value: float | None, form: str, unit: float = 1) -> str:
    return "–" if value is None else form.format(value / unit)


if __name__ == "__main__":
    main()
