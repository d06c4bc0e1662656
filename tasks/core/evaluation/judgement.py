"""A judge's verdicts on pairs of answers, as values and figures. Pure.

Each pair is judged twice, once in each order. The invariant: an answer wins only where both
verdicts agree; a verdict that changes with the order says nothing about the answers, and is a tie.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

Winner = Literal["before", "after", "tie"]


class _JudgementRecord(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class JudgedPair(_JudgementRecord):
    """The judge's verdict on one pair: `winner` is None where it gave none.

    `turned`: whether its verdict changed with the order of the answers.
    """

    prompt_id: str
    winner: Winner | None
    turned: bool = False
    reasons: tuple[str, ...] = ()


class Agreement(_JudgementRecord):
    """How far the judge agrees with people, on pairs that people have judged.

    `share` is the share of equal verdicts; `kappa` is Cohen's kappa, which corrects it for chance,
    None where chance alone gives full agreement.
    Source: Cohen, Educ. Psychol. Meas. 20 (1960), 37-46.
    """

    pairs: int
    share: float
    kappa: float | None


class PairwiseJudgement(_JudgementRecord):
    """The judge's preferences between the answers of the models `after` and `before`.

    `left_out` pairs were not judged because of the cost or pair limit; `unjudged` ones were, but
    without a verdict. `drawn` is how many pairs the pair limit allows. `cost` is in the currency of
    the recipe's prices, None without prices; `uncounted` replies had no token count, or were lost,
    and count with the maximum that they can have taken.
    """

    model: str
    before: str
    after: str
    pairs: tuple[JudgedPair, ...]
    drawn: int = 0
    left_out: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    uncounted: int = 0
    cost: float | None = None
    agreement: Agreement | None = None

    @property
    def wins(self) -> int:
        """How many answers of `after` are preferred."""
        return self._count("after")

    @property
    def losses(self) -> int:
        """How many answers of `before` are preferred."""
        return self._count("before")

    @property
    def ties(self) -> int:
        """How many pairs are equally good, or had contradicting verdicts."""
        return self._count("tie")

    @property
    def unjudged(self) -> int:
        """How many pairs the judge gave no verdict on."""
        return self._count(None)

    @property
    def turned(self) -> int:
        """How many of the ties are verdicts that changed with the order."""
        return sum(pair.turned for pair in self.pairs)

    @property
    def judged(self) -> int:
        """How many pairs have a verdict."""
        return self.wins + self.losses + self.ties

    @property
    def wanted(self) -> int:
        """How many pairs should have a verdict."""
        return max(self.drawn, len(self.pairs))

    @property
    def win_rate(self) -> float | None:
        """Return the share of wins, ties counting half; None where no pair has a verdict."""
        return (self.wins + self.ties / 2) / self.judged if self.judged else None

    @property
    def sure_win_rate(self) -> float | None:
        """Return a lower bound of the share of wins, with a missing verdict counting as a tie.

        None where fewer than half of the pairs have a verdict: too few to judge the others by.
        """
        if self.win_rate is None or 2 * self.judged < self.wanted:
            return None
        ties = self.ties + self.wanted - self.judged
        return min(self.win_rate, (self.wins + ties / 2) / self.wanted)

    def _count(self, winner: Winner | None) -> int:
        return sum(pair.winner == winner for pair in self.pairs)


def of_both_orders(one: Winner | None, other: Winner | None) -> tuple[Winner | None, bool]:
    """Return the winner by the verdicts of both orders, and whether they contradict each other.

    A tie in one order and a winner in the other are a contradiction too.
    """
    if one is None or other is None:
        return None, False
    return (one, False) if one == other else ("tie", True)


def agreement(people: Sequence[Winner], judge: Sequence[Winner]) -> Agreement | None:
    """Return how far the verdicts on the same pairs agree; None without any."""
    total = len(people)
    if not total:
        return None
    share = sum(a == b for a, b in zip(people, judge, strict=True)) / total
    theirs, ours = Counter(people), Counter(judge)
    chance = sum(theirs[verdict] * ours[verdict] for verdict in theirs) / total**2
    kappa = None if chance == 1 else (share - chance) / (1 - chance)
    return Agreement(pairs=total, share=share, kappa=kappa)
