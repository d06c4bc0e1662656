"""Whether a series of readings grows: the rule, and nothing of how it was read.

After a warm-up, the first third, what is left is halved. A series grows if it rises in both halves,
each by the slope of Theil and Sen (the median of the slopes of all pairs: outliers do not move it),
by more in an hour than a share of its level and a floor allow. A step, such as a cache that is
filled once or a new model, lies in one half only; a leak is in both. What a restart hides shows as
processes that have begun, of which a median would not see one in each half: there a half rises by
what its last reading is above its first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Points = Sequence[tuple[float, float]]
"""Seconds since the beginning, and the value."""

WARM_UP = 1 / 3
HOUR_S = 3600.0
_FEWEST = 8
"""Points in a half, below which nothing is said of it."""
_MOST = 400
"""Points in a half that are compared each with each."""


@dataclass(frozen=True)
class Allowed:
    """What a series may grow in an hour: the larger of a share of its level and a floor."""

    share: float
    floor: float


@dataclass(frozen=True)
class Finding:
    """How much a series grows in an hour, and what it may."""

    name: str
    level: float
    growth_an_hour: float
    allowed: float

    @property
    def grows(self) -> bool:
        """Whether it grows by more than it may."""
        return self.growth_an_hour > self.allowed


MEMORY = Allowed(share=0.05, floor=4e6)
COUNT = Allowed(share=0.05, floor=1.5)
BYTES = Allowed(share=0.02, floor=100_000)
RULES: dict[str, Allowed] = {
    "memory": MEMORY,
    "peak": MEMORY,
    "descriptors": COUNT,
    "threads": COUNT,
    "processes": Allowed(share=0, floor=0.5),
    "begun": Allowed(share=0, floor=0.5),
    "files": COUNT,
    "disk": BYTES,
}
"""By what a series measures, the first word of its name. What is not here is not judged."""


def findings(
    series: Mapping[str, Points], until_s: float, more: Mapping[str, Allowed]
) -> list[Finding]:
    """Return a finding for each series that can be judged; `more` are rules for single ones."""
    found = []
    for name, points in sorted(series.items()):
        allowed = more.get(name) or RULES.get(name.partition("/")[0])
        if allowed is not None and (finding := judged(name, points, until_s, allowed)):
            found.append(finding)
    return found


def judged(name: str, points: Points, until_s: float, allowed: Allowed) -> Finding | None:
    """Return what became of one series, None where there are too few points to say it."""
    begin_s = until_s * WARM_UP
    middle_s = (begin_s + until_s) / 2
    halves = [
        [(at, value) for at, value in points if begin_s <= at < middle_s],
        [(at, value) for at, value in points if at >= middle_s],
    ]
    if min(map(len, halves)) < _FEWEST:
        return None
    level = float(np.median([value for half in halves for _, value in half]))
    rise = step if name.startswith("begun/") else slope
    growth = min(rise(half) for half in halves) * HOUR_S
    return Finding(name, level, growth, max(allowed.share * level, allowed.floor))


def step(points: Points) -> float:
    """Return how much the last value is above the first, a second."""
    (first_s, first), (last_s, last) = points[0], points[-1]
    return (last - first) / (last_s - first_s) if last_s > first_s else 0.0


def slope(points: Points) -> float:
    """Return the median of the slopes of all pairs, a second.

    Source: P. K. Sen, Estimates of the regression coefficient based on Kendall's tau, 1968.
    """
    thinned = points[:: -(-len(points) // _MOST)]
    at, values = np.array(thinned, dtype=float).T
    first, second = np.triu_indices(len(at), k=1)
    apart = at[second] - at[first]
    rises = (values[second] - values[first])[apart > 0] / apart[apart > 0]
    return float(np.median(rises)) if len(rises) else 0.0
