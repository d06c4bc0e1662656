"""What a judgement costs, also where replies are lost on the way."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.errors import JudgeUnavailable
from tasks.core.evaluation.judge_endpoint import Endpoint, Reply
from tasks.core.evaluation.judge_journal import JudgeJournal
from tasks.core.evaluation.judge_pairs import AnswerPair, PairJudge
from tasks.core.recipe import Judge
from tests.judges import JudgeServer, Said

PAIR = AnswerPair("p", "Apa itu NIB?", "Tidak tahu.", "Nomor induk berusaha.")
REPLY = Reply("{}", 10, 10)
MOST = 10_000
"""More tokens than both orders of the pair can take."""


class Loses:
    """An endpoint of which so many attempts are lost before the first reply."""

    def __init__(self, attempts: int) -> None:
        self.left, self.asked = attempts, 0

    def ask(self, text: str, lost: Callable[[], bool]) -> Reply:
        self.asked += 1
        while self.left:
            self.left -= 1
            if not lost():
                raise JudgeUnavailable("The judge does not answer.")
        return REPLY


def bench(tmp_path: Path, endpoint: Loses | Endpoint, max_cost: float = 1e9) -> PairJudge:
    judge = Judge(
        model="hakim",
        url="http://127.0.0.1:9/v1",
        input_price=1e6,
        output_price=1e6,
        max_cost=max_cost,
    )
    return PairJudge(judge, endpoint, JudgeJournal(tmp_path / "journal.jsonl"), lambda _: None)


def test_attempts_that_were_lost_are_paid_also_in_the_next_run(tmp_path: Path) -> None:
    first = bench(tmp_path, Loses(2))
    first.verdicts([PAIR], "pair")
    assert first.uncounted == 2
    assert first.cost > 2 * 1024 + 40
    again = bench(tmp_path, Loses(0))
    again.verdicts([PAIR], "pair")
    assert again.cost == first.cost


def test_no_attempt_is_made_that_could_exceed_the_limit(tmp_path: Path) -> None:
    endpoint = Loses(100)
    first = bench(tmp_path, endpoint, max_cost=2 * MOST)
    with pytest.raises(JudgeUnavailable):
        first.verdicts([PAIR], "pair")
    assert first.cost <= 2 * MOST
    assert endpoint.left > 0
    again = bench(tmp_path, Loses(0), max_cost=2 * MOST)
    assert again.verdicts([PAIR], "pair") == []


@pytest.mark.parametrize(("status", "paid"), [(500, 2), (504, 2), (429, 0), (503, 0)])
def test_an_attempt_counts_where_the_question_may_have_been_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, paid: int
) -> None:
    monkeypatch.setattr("tasks.core.retry.pause", lambda _: None)
    server = JudgeServer()
    server.instead = [Said(status)] * 2
    try:
        with Endpoint(Judge(model="hakim", url=server.url)) as endpoint:
            found = bench(tmp_path, endpoint)
            found.verdicts([PAIR], "pair")
    finally:
        server.close()
    assert found.uncounted == paid
