"""Ninety minutes of scheduled rebuilds that find nothing new, and of a served model that is asked.

    python -m tests.soak [--minutes 90] [--every 60] [--out DIRECTORY]

Makes a tiny base, its delta, a Hub and a home; Prefect is up in it, with server, workers and the
deployment of the recipe, which serves. Then the recipe's schedule is switched on, and those of the
upkeep. At half of the time the Hub gets a new delta: the next run builds and deploys another model.
Every ten seconds it is read what every process and every part of the disk takes (readings.py).

Leaves readings.jsonl and soak.png in the directory, prints what each series does, and ends with 1
where one of them grows (verdict.py) or a request did not come to what it must.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Libraries read these when they are imported.
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

from tests.soak.judge import READINGS, judge
from tests.soak.machine import MODEL, LeftAlone, left_alone
from tests.soak.readings import Readings
from tests.soak.visitors import Visitors

READ_EVERY_S = 10.0
LOOK_EVERY_S = 2.0
"""How often it is looked which runs are in progress: they take a few seconds."""
_SWITCH_AT = 0.5
OUT = Path(".benchmarks/soak")


def main() -> None:
    """Soak, then judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--every", type=float, default=60, help="seconds between two rebuilds")
    parser.add_argument("--out", type=Path, default=OUT, help="a directory")
    parser.add_argument("--judge", action="store_true", help="only judge what lies in --out")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    if not chosen.judge:
        _soak(chosen.out / READINGS, chosen.minutes * 60, chosen.every)
    sys.exit(judge(chosen.out))


def _soak(file: Path, for_s: float, every_s: float) -> None:
    with tempfile.TemporaryDirectory(prefix="soak-") as name, file.open("w", buffering=1) as lines:
        os.environ["KAWAN_USAHA_LOCKS"] = str(Path(name) / "locks")
        with left_alone(Path(name)) as machine:
            machine.switch_schedules_on(every_s)
            with Visitors(machine.url, MODEL, machine.page) as visitors:
                for line in _readings(machine, for_s):
                    lines.write(json.dumps(line) + "\n")
            told = {"counts": dict(visitors.counts), "amiss": visitors.amiss}
            lines.write(json.dumps(told) + "\n")


def _readings(machine: LeftAlone, for_s: float) -> Iterator[dict[str, Any]]:
    """Yield a line for each reading, each run that has ended, and each event."""
    readings, served = Readings(machine.home, machine.outside), machine.build()
    begun = time.monotonic()
    is_published, next_s = False, 0.0
    while (at_s := time.monotonic() - begun) < for_s:
        for ended in readings.ended_runs():
            yield {"at_s": at_s, "series": ended}
        if at_s >= next_s:
            next_s += READ_EVERY_S
            yield {"at_s": at_s, "series": readings.now()}
            if machine.build() != served:
                served = machine.build()
                yield {"at_s": at_s, "event": "a new model serves"}
        if not is_published and at_s > for_s * _SWITCH_AT:
            is_published = True
            machine.publish_new_delta()
            yield {"at_s": at_s, "event": "a new delta on the Hub"}
        time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    main()
