"""Which process is killed, in which stage and after how long: all of it from one seed."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import get_args

from tests.chaos.victims import Kind, Stage

STAGES: tuple[Stage, ...] = get_args(Stage)
KINDS: tuple[Kind, ...] = get_args(Kind)

_AT_ONCE = 0.2
_GAP_S = 6.0


@dataclass
class Plan:
    """So many kills, spread over the stages; `took_s` is how long each works undisturbed.

    A round is a build from its begin to its end. What a round owes a stage, since that was over
    too soon, the next round gives it.
    """

    seed: int
    kills: int
    took_s: Mapping[Stage, float]
    done: Counter[tuple[Kind, Stage]] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)
    _owed: Counter[Stage] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)  # noqa: S311 - repeatable
        order: list[Stage] = []
        while len(order) < self.kills:
            order += self.chance.sample(STAGES, len(STAGES))
        self._owed.update(order[: self.kills])

    def is_over(self) -> bool:
        """Return whether all of them were done."""
        return self.done.total() >= self.kills

    def owes(self, stage: Stage) -> bool:
        """Return whether this stage is to be struck again in this round."""
        return self._owed[stage] > 0 and not self.is_over()

    def moment_s(self, stage: Stage) -> float:
        """Return after how long in the stage the next process is killed."""
        return self.chance.uniform(0.0, self.took_s[stage])

    def gap_s(self) -> float:
        """Return how long a stage that goes on after a kill is let alone: most often some seconds.

        Now and then two are killed at once.
        """
        return 0.0 if self.chance.random() < _AT_ONCE else self.chance.expovariate(1 / _GAP_S)

    def kind(self, stage: Stage, there: Iterable[Kind]) -> Kind:
        """Return the kind to kill, of those that are there: one that was struck least here."""
        alive = [kind for kind in KINDS if kind in set(there)]
        least = min(self.done[kind, stage] for kind in alive)
        return self.chance.choice([kind for kind in alive if self.done[kind, stage] == least])

    def struck(self, kind: Kind, stage: Stage) -> None:
        """Count a kill where it has come, which may be a stage after the one that it was for."""
        self.done[kind, stage] += 1
        self._owed[stage] = max(0, self._owed[stage] - 1)

    def table(self) -> str:
        """Return how often each kind was struck in each stage, as a table in Markdown."""
        rows = [f"| killed | {' | '.join(STAGES)} | all |", "|---" * (len(STAGES) + 2) + "|"]
        for kind in KINDS:
            counts = [self.done[kind, stage] for stage in STAGES]
            cells = " | ".join(str(count or "") for count in counts)
            rows.append(f"| {kind} | {cells} | {sum(counts)} |")
        sums = [sum(self.done[kind, stage] for kind in KINDS) for stage in STAGES]
        rows.append(f"| all | {' | '.join(map(str, sums))} | {sum(sums)} |")
        return "\n".join(rows)
