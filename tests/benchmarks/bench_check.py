"""`kawan-usaha data check` on a file that is larger than a small machine's memory.

    python -m tests.benchmarks.bench_check --megabytes 2048 --form lines

Makes a file of Indonesian conversations out of the starter set's sentences, with a known number of
records of every kind that is to be found, checks it in a process of its own, compares what was
found with what was put in, and prints time and peak memory. Beside the table stands
`check-<megabytes>-<form>.json`.
"""

import argparse
import itertools
import json
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.benchmarks.measure import run

_STARTER = Path(__file__).parents[2] / "data" / "conversation.json"
_ENGLISH = "Add up flour, eggs, gas, your own time and a share of the rent, then add a margin. "
_EVERY = 1000  # records, of which one is bad in each of the ways below
_LIMIT = 0.02

Record = dict[str, object]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark that the command line describes."""
    options = _parse(arguments)
    work = options.workdir.resolve()
    work.mkdir(parents=True, exist_ok=True)
    stem = work / f"check-{options.megabytes}-{options.form}"
    data = stem.with_suffix(".data")
    records, planted = make_file(data, options.megabytes << 20, options.form)
    command = [str(Path(sys.executable).parent / "kawan-usaha"), "data", "check", str(data)]
    command += ["--max-dropped-share", str(_LIMIT), "--json"]
    result = run(command, stem.with_suffix(".log"))
    if result.exit_code != 0:
        raise SystemExit(f"the check failed: {result.last_words}")
    told = _json_of(stem.with_suffix(".log"))
    found = Counter(told["faults"])
    document = {
        "megabytes": options.megabytes,
        "form": options.form,
        "records": records,
        "planted": dict(planted),
        "found": dict(found),
        "wall_s": result.wall_s,
        "megabytes_per_s": options.megabytes / result.wall_s,
        "records_per_s": records / result.wall_s,
        "peak_bytes": result.peak_bytes,
        "peak_anonymous_bytes": result.peak_anonymous_bytes,
        "python": platform.python_version(),
    }
    stem.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    print(_table(document))
    if found != planted or told["records"] != records:
        raise SystemExit(f"planted {dict(planted)}, found {dict(found)}")
    if not options.keep:
        data.unlink()


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


def _table(document: dict[str, object]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in document.items())


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--form", choices=["lines", "array"], default="lines")
    parser.add_argument("--workdir", type=Path, default=Path(".benchmarks"))
    parser.add_argument("--keep", action="store_true", help="keep the generated file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
