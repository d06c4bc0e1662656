import pytest

from tasks.core.evaluation.judgement import (
    JudgedPair,
    PairwiseJudgement,
    Winner,
    agreement,
    of_both_orders,
)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("before", "after", ("tie", True)),
        ("after", "tie", ("tie", True)),
        ("tie", "tie", ("tie", False)),
        ("after", "after", ("after", False)),
        (None, "after", (None, False)),
        ("after", None, (None, False)),
    ],
)
def test_an_answer_wins_only_where_both_orders_say_so(
    one: Winner | None, other: Winner | None, expected: tuple[Winner | None, bool]
) -> None:
    assert of_both_orders(one, other) == expected


def test_without_any_verdict_there_is_no_win_rate() -> None:
    pairs = (JudgedPair(prompt_id="a", winner=None),)
    found = PairwiseJudgement(model="j", before="b", after="a", pairs=pairs)
    assert found.win_rate is None
    assert found.unjudged == 1


def test_a_tie_is_half_a_win_and_what_was_not_judged_counts_for_nothing() -> None:
    winners: list[Winner | None] = ["after", "tie", "before", "after", None]
    pairs = tuple(JudgedPair(prompt_id=str(n), winner=w) for n, w in enumerate(winners))
    found = PairwiseJudgement(model="j", before="b", after="a", pairs=pairs)
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert found.win_rate == 2.5 / 4


@pytest.mark.parametrize(
    ("winners", "drawn", "rate"),
    [
        ("a", 50, None),
        ("a" * 24 + "?" * 26, 50, None),
        ("a" * 30, 50, 0.8),  # 30 wins and 20 ties
        ("a" * 30 + "?" * 20, 50, 0.8),
        ("b" * 30 + "?" * 20, 50, 0.0),  # no better than what was judged
        ("aabt", 4, 0.625),
        ("aabt", 0, 0.625),  # of an earlier version
    ],
)
def test_what_was_not_judged_is_a_tie_at_most_and_half_must_be(
    winners: str, drawn: int, rate: float | None
) -> None:
    names: dict[str, Winner | None] = {"a": "after", "b": "before", "t": "tie", "?": None}
    pairs = tuple(JudgedPair(prompt_id=str(n), winner=names[w]) for n, w in enumerate(winners))
    found = PairwiseJudgement(model="j", before="b", after="a", pairs=pairs, drawn=drawn)
    assert found.sure_win_rate == rate


def test_kappa_is_that_of_the_textbook() -> None:
    """50 grants, 20 both yes, 15 both no, 5 and 10 apart: kappa 0.4 (Wikipedia, Cohen's kappa)."""
    pairs: list[tuple[Winner, Winner]] = [
        *[("after", "after")] * 20,
        *[("after", "before")] * 5,
        *[("before", "after")] * 10,
        *[("before", "before")] * 15,
    ]
    found = agreement([one for one, _ in pairs], [other for _, other in pairs])
    assert found is not None
    assert found.share == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)


def test_a_judge_that_always_says_the_same_agrees_by_chance_only() -> None:
    people: list[Winner] = ["before", "after"] * 10
    found = agreement(people, ["after"] * 20)
    assert found is not None
    assert (found.share, found.kappa) == (0.5, 0.0)


def test_where_everybody_says_the_same_there_is_no_kappa() -> None:
    found = agreement(["after"], ["after"])
    assert found is not None
    assert found.kappa is None
    assert agreement([], []) is None
