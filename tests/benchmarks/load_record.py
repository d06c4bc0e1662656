"""What became of each question of a load test: a file of lines between locust and the benchmark.

The benchmark doesn't import locust, which patches the standard library when it is imported.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """One question, in seconds of the machine's monotonic clock; no first token where none came."""

    began_s: float
    first_token_s: float | None
    ended_s: float
    tokens: int
    problem: str | None


def append(path: Path, answer: Answer) -> None:
    """Add a line, in one write: greenlets of one process share the file."""
    with path.open("a") as lines:
        lines.write(json.dumps(asdict(answer)) + "\n")


def answers(path: Path) -> list[Answer]:
    """Return all lines."""
    return [Answer(**json.loads(line)) for line in path.read_text().splitlines()]


def tokens_per_s(found: Sequence[Answer]) -> float:
    """Return all tokens over the time from the first question to the end of the last answer.

    The clients stop asking before that end, so that a server which answers many at once is idle in
    part of it: its figure is too low rather than too high.
    """
    wall_s = max(each.ended_s for each in found) - min(each.began_s for each in found)
    return sum(each.tokens for each in found) / wall_s


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return p50, p95 and p99, each the value of one answer; NaN where there is none."""
    if not values:
        return (float("nan"),) * 3
    ordered = sorted(values)
    p50, p95, p99 = (
        ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.95, 0.99)
    )
    return p50, p95, p99
