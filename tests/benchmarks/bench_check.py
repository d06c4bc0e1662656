"""`kawan-usaha data check` on a file that is larger than a small machine's memory.

    python -m tests.benchmarks.bench_check --megabytes 2048 --form lines --before bd49c02
    python -m tests.benchmarks.bench_check --quick

Makes a file of Indonesian conversations out of the starter set's sentences, with a known number of
records of every kind that is to be found. Checks it in a process of its own with all cores, with
one core, and with an earlier revision of this project where one is named; compares what was found
with what was put in; and prints time and peak memory beside the limit, which is `json.loads` of
every record. Beside the table stands `check-<megabytes>-<form>.json`.

`--quick` checks a few megabytes in this process and prints a line of JSON a row:
`{"row": ..., "ratio": ...}`, our time by that of the limit: less is better.
"""

import argparse
import itertools
import json
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from tasks.core.system.cores import usable_cores
from tests.benchmarks.earlier import HERE, checkout
from tests.benchmarks.measure import Run, run

_STARTER = Path(__file__).parents[2] / "data" / "conversation.json"
_ENGLISH = "Add up flour, eggs, gas, your own time and a share of the rent, then add a margin. "
_EVERY = 1000  # records, of which one is bad in each of the ways below
_LIMIT = 0.02
_COMMAND = "from flows.cli import main; main()"

Record = dict[str, object]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark that the command line describes."""
    options = _parse(arguments)
    work = options.workdir.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if options.quick:
        _quick(work)
        return
    stem = work / f"check-{options.megabytes}-{options.form}"
    data = stem.with_suffix(".data")
    records, planted = make_file(data, options.megabytes << 20, options.form)
    with ExitStack() as stack:
        roots = {"us, all cores": (HERE, ())}
        if options.one_core:
            roots["us, one core"] = (HERE, ("taskset", "-c", "0"))
        if options.before:
            roots[f"before, {options.before}"] = (
                stack.enter_context(checkout(options.before)),
                (),
            )
        limit_s = _json_alone(data)
        rows = [_row("limit: json.loads alone", limit_s, limit_s, options.megabytes)]
        for name, (root, prefix) in roots.items():
            result = _checked(root, prefix, data, records, planted)
            rows.append(_row(name, result.wall_s, limit_s, options.megabytes, result))
    document = {
        "megabytes": options.megabytes,
        "form": options.form,
        "records": records,
        "planted": dict(planted),
        "cores": usable_cores(),
        "python": platform.python_version(),
        "rows": rows,
    }
    stem.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    print(_table(rows))
    print(f"{options.form}, {records:,} records; every planted fault was found")
    if not options.keep:
        data.unlink()


def _checked(
    root: Path, prefix: Sequence[str], data: Path, records: int, planted: Counter[str]
) -> Run:
    """Run the command of the project that lies in root; what it finds must be what was planted."""
    command = [*prefix, "env", f"PYTHONPATH={root}", sys.executable, "-c", _COMMAND]
    command += ["data", "check", str(data), "--max-dropped-share", str(_LIMIT), "--json"]
    log = data.with_suffix(".log")
    result = run(command, log)
    if result.exit_code != 0:
        raise SystemExit(f"the check failed: {result.last_words}")
    told = _json_of(log)
    if Counter(told["faults"]) != planted or told["records"] != records:
        raise SystemExit(f"planted {dict(planted)}, found {told['faults']}")
    return result


def _json_alone(data: Path) -> float:
    """Return how long Python takes to read and decode every record, and nothing else."""
    start = time.perf_counter()
    with data.open("rb") as file:
        for line in file:
            json.loads(line.strip(b"[],\n"))  # in the array each record stands in its own line
    return time.perf_counter() - start


def _quick(work: Path) -> None:
    from tasks.core.conversation.checking.rules import Rules
    from tasks.core.conversation.checking.screening import screen

    data = work / "check-quick.data"
    for form, megabytes, processes in (("lines", 6, 1), ("array", 6, 1), ("lines", 24, None)):
        make_file(data, megabytes << 20, form)
        screen(_STARTER, Rules(), processes=1)  # loads the model of languages

        def check(data: Path = data, processes: int | None = processes) -> None:
            screen(data, Rules(), processes=processes)

        ours_s, limit_s = _least(check), _least(lambda: _json_alone(data))
        cores = "one process" if processes else "all cores"
        row = f"data check, {form}, {cores}, by json.loads"
        print(json.dumps({"row": row, "ratio": round(ours_s / limit_s, 2)}), flush=True)
    data.unlink()


def _least(call: Callable[[], object], times: int = 3) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)


def _row(
    name: str, wall_s: float, limit_s: float, megabytes: int, result: Run | None = None
) -> dict[str, object]:
    memory = (
        {}
        if result is None
        else {
            "peak_pss_bytes": result.peak_pss_bytes,
            "peak_anonymous_bytes": result.peak_anonymous_bytes,
        }
    )
    return {
        "row": name,
        "wall_s": round(wall_s, 1),
        "megabytes_per_s": round(megabytes / wall_s, 1),
        "by_limit": round(wall_s / limit_s, 2),
        **memory,
    }


def make_file(path: Path, size_bytes: int, form: str) -> tuple[int, Counter[str]]:
    """Write records until the file has the size; return their number and that of each fault."""
    planted = Counter[str]()
    first, between, last = ("[", ",\n", "]\n") if form == "array" else ("", "\n", "\n")
    with path.open("w") as file:
        written = file.write(first)
        for count, (record, fault) in enumerate(_records(), start=1):
            text = json.dumps(record, ensure_ascii=False)
            written += file.write(text if count == 1 else between + text)
            planted.update([fault] if fault else [])
            if written >= size_bytes:
                break
        file.write(last)
    return count, planted


def _records() -> Iterator[tuple[Record, str | None]]:
    """Yield records for ever, each with the fault that it was given."""
    random = np.random.default_rng(1)
    sentences = [
        sentence
        for record in json.loads(_STARTER.read_text())
        for turn in record["conversations"]
        for sentence in turn["value"].replace("\n", " ").split(". ")
        if len(sentence) > 20
    ]

    def said(count: int) -> str:
        return ". ".join(sentences[i] for i in random.integers(0, len(sentences), count)) + "."

    for number in itertools.count():
        turns = [said(1 + 12 * (i % 2)) for i in range(2 * int(random.integers(1, 4)))]
        kind = number % _EVERY
        if kind == 1:
            yield (
                _record(number, [*turns[:-1], f"{turns[-1]} Hubungi 0812-3456-7890."]),
                ("personal data"),
            )
        elif kind == 2:
            yield _record(number, ["How do I price my cakes?", _ENGLISH * 8]), "other language"
        elif kind == 3:
            yield _record(number, [*turns[:-1], " "]), "empty turn"
        elif kind == 4:
            yield _record(number, turns[:1]), "no turn of the assistant"
        else:
            yield (original := _record(number, turns)), None
            if kind == 5:
                yield {**original, "id": f"salinan-{number}"}, "duplicate"
            elif kind == 6:
                changed = [turns[0] + " Terima kasih.", *turns[1:]]
                yield _record(number, changed), "near duplicate"


def _record(number: int, said: Sequence[str]) -> Record:
    turns = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(said)]
    return {"id": f"buatan-{number}", "conversations": turns}


def _json_of(log: Path) -> dict[str, dict[str, int]]:
    text = log.read_text()
    told: dict[str, dict[str, int]] = json.loads(
        text[text.index("\n{\n" if text[0] != "{" else "{") :]
    )
    return told


def _table(rows: Sequence[dict[str, object]]) -> str:
    lines = ["| | s | MB/s | x the limit | memory (PSS) |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        pss = row.get("peak_pss_bytes")
        memory = f"{pss / 1e9:.2f} GB" if isinstance(pss, int) else ""
        lines.append(
            f"| {row['row']} | {row['wall_s']} | {row['megabytes_per_s']} | {row['by_limit']} "
            f"| {memory} |"
        )
    return "\n".join(lines)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--form", choices=["lines", "array"], default="lines")
    parser.add_argument("--before", help="a revision of this project to measure beside it")
    parser.add_argument("--one-core", action="store_true", help="measure with one core as well")
    parser.add_argument(
        "--quick", action="store_true", help="a few megabytes, ratios as JSON lines"
    )
    parser.add_argument("--workdir", type=Path, default=Path(".benchmarks"))
    parser.add_argument("--keep", action="store_true", help="keep the generated file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
