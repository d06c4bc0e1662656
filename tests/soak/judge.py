"""What came of a soak: a line for each series, the picture, and the exit code.

READINGS holds a line of JSON for each reading and event, and one at its end for the requests.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from tests.soak.chart import draw
from tests.soak.readings import FLOW_RUN
from tests.soak.verdict import HOUR_S, Allowed, Finding, Points, findings

READINGS, PICTURE = "readings.jsonl", "soak.png"

BYTES_A_RUN = 100_000
"""What Prefect's database may grow by a run, until old runs go (docs/upkeep.md)."""
ROTATED = Allowed(share=0, floor=2e6)
"""Of logs that are begun anew at 10 MB: what they may grow until then."""


def judge(out: Path) -> int:
    """Print what became of each series, draw all of them, and return the exit code."""
    series: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    events, told = {}, {}
    for line in map(json.loads, (out / READINGS).read_text().splitlines()):
        if "event" in line:
            events[line["event"]] = line["at_s"]
        elif "series" in line:
            for name, value in line["series"].items():
                series[name].append((line["at_s"], value))
        else:
            told = line
    until_s = max(at for points in series.values() for at, _ in points)
    found = findings(series, until_s, _by_nature(series, until_s))
    for each in found:
        print(_row(each))
    print(f"requests: {told['counts']}, amiss: {told['amiss']}")
    print(f"cores: {_cores(series)}")
    print(f"events: {events}")
    draw(series, events, until_s, out / PICTURE, f"{until_s / 60:.0f} minutes left alone")
    growing = [each.name for each in found if each.grows]
    print(f"grows: {', '.join(growing) or 'nothing'}")
    return 1 if growing or told["amiss"] else 0


def _by_nature(series: Mapping[str, Points], until_s: float) -> dict[str, Allowed]:
    """Return what may grow by the run or by the request, as its bound is beyond an hour."""
    runs_an_hour = len(series.get(f"peak/{FLOW_RUN}", ())) / until_s * HOUR_S
    return {
        "disk/prefect database": Allowed(share=0, floor=runs_an_hour * BYTES_A_RUN),
        "disk/prefect's logs": ROTATED,
        "disk/serving's logs": ROTATED,
    }


def _row(each: Finding) -> str:
    return (
        f"{'GROWS' if each.grows else 'flat ':<6}{each.name:<40}{each.level:>16,.0f}"
        f"{each.growth_an_hour:>+16,.1f} an hour, allowed {each.allowed:,.0f}"
    )


def _cores(series: Mapping[str, Points]) -> dict[str, float]:
    """Return how much of a core each role has used on average."""
    ends = {name: (p[0], p[-1]) for name, p in series.items() if name.startswith("cpu/")}
    return {
        name.partition("/")[2]: round((last[1] - first[1]) / (last[0] - first[0]), 3)
        for name, (first, last) in ends.items()
        if last[0] > first[0]
    }
