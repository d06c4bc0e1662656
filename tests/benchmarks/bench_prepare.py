"""Data preparation: from a conversation file to tokens and labels in a file.

    python -m tests.benchmarks.bench_prepare --megabytes 24 --before bd49c02
    python -m tests.benchmarks.bench_prepare --quick

Measures, in turn, a round at a time, each in a process of its own: this project; an earlier
revision of it where one is named; FastChat's own `preprocess`, record by record, which checks
nothing, writes nothing and pads each record to the length; and the limit, `json.loads` and the
tokenizer alone. Ours checks every record (language, personal data, duplicates) besides. Rendering
is that of a conversation of 256 turns. The tokenizer has learned the starter set: about 3.5
characters a token.

`--quick` prints `{"row": ..., "ratio": ...}`, our time by the other's: less is better.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.bench_check import make_file
from tests.benchmarks.bench_data import learned_tokenizer
from tests.benchmarks.earlier import HERE, checkout

_CONTENDERS = Path(__file__).with_name("preparation_contenders.py")
_US, _RENDERING = "us", "rendering, us"
_BESIDE = {
    "limit: json.loads and the tokenizer": _US,
    "FastChat's preprocess": _US,
    "before": _US,
    "rendering, before": _RENDERING,
}
"""What each of the others is compared with."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark that the command line describes."""
    options = _parse(arguments)
    work = options.workdir.resolve()
    work.mkdir(parents=True, exist_ok=True)
    megabytes, rounds = (3, 1) if options.quick else (options.megabytes, options.rounds)
    data, warm, model = work / "prepare.data", work / "prepare-warm.data", work / "tokenizer"
    make_file(data, megabytes << 20, "lines")
    make_file(warm, 1 << 17, "lines")
    learned_tokenizer().save_pretrained(model)
    (work / "prepared").mkdir(exist_ok=True)
    with ExitStack() as stack:
        ways = {
            _US: (HERE, "project"),
            "limit: json.loads and the tokenizer": (HERE, "limit"),
            "FastChat's preprocess": (HERE, "fastchat"),
            _RENDERING: (HERE, "rendering"),
        }
        if options.before:
            before = stack.enter_context(checkout(options.before))
            ways |= {"before": (before, "project"), "rendering, before": (before, "rendering")}
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, (root, way) in ways.items():
                places = [model, warm, data, work / "prepared"]
                taken[name].append(_seconds(root, way, places))
    seconds = {name: statistics.median(each) for name, each in taken.items()}
    print(_as_lines(seconds) if options.quick else _table(seconds, megabytes))
    data.unlink()


def _seconds(root: Path, way: str, places: Sequence[Path]) -> float:
    ran = subprocess.run(
        [sys.executable, str(_CONTENDERS), way, *map(str, places)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise SystemExit(ran.stderr[-2000:])
    return float(ran.stdout.split()[-1])


def _as_lines(seconds: Mapping[str, float]) -> str:
    return "\n".join(
        json.dumps(
            {
                "row": f"data preparation, by {name}",
                "ratio": round(seconds[ours] / seconds[name], 3),
            }
        )
        for name, ours in _BESIDE.items()
        if name in seconds
    )


def _table(seconds: Mapping[str, float], megabytes: int) -> str:
    lines = ["| | s | MB/s | our time by this |", "|---|---:|---:|---:|"]
    for name, taken in seconds.items():
        speed = "" if name.startswith("rendering") else f"{megabytes / taken:.2f}"
        ratio = f"{seconds[_BESIDE[name]] / taken:.2f}" if name in _BESIDE else ""
        lines.append(f"| {name} | {taken:.2f} | {speed} | {ratio} |")
    return "\n".join(lines)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", help="a revision of this project to measure beside it")
    parser.add_argument("--quick", action="store_true", help="3 MB, once, ratios as JSON lines")
    parser.add_argument("--workdir", type=Path, default=Path(".benchmarks"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
