import itertools

from hypothesis import given
from hypothesis import strategies as st

from tasks.core.training.batching.grouping import LengthGroups

MANY = [(i * 7919) % 1000 for i in range(500)]


@given(st.lists(st.integers(1, 100), max_size=80), st.integers(1, 9), st.integers(0, 3))
def test_every_index_comes_once_an_epoch(lengths: list[int], size: int, epoch: int) -> None:
    order = LengthGroups(lengths, size, seed=1)
    order.set_epoch(epoch)
    assert sorted(order) == list(range(len(lengths)))


def test_groups_are_of_like_length_and_come_in_random_order() -> None:
    order = list(LengthGroups(MANY, 4, seed=1))
    spreads = [
        max(MANY[i] for i in order[at : at + 4]) - min(MANY[i] for i in order[at : at + 4])
        for at in range(0, 500, 4)
    ]
    assert sum(spreads) / len(spreads) < 25  # by chance it would be 600
    first_half = sum(MANY[i] for i in order[:250]) / 250
    assert 400 < first_half < 600


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        groups = LengthGroups(MANY, 4, seed)
        groups.set_epoch(epoch)
        return list(groups)

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


def test_only_the_last_group_may_be_short() -> None:
    order = list(LengthGroups([1] * 3 + [1000] * 2, 2, seed=1))
    assert len(order) == 5
    assert set(order[:2]) == {3, 4}


@given(st.lists(st.integers(1, 100), min_size=1, max_size=80), st.integers(1, 9), st.integers(0, 9))
def test_the_longest_comes_first_of_all(lengths: list[int], size: int, seed: int) -> None:
    order = LengthGroups(lengths, size, seed)
    assert lengths[next(iter(order))] == max(lengths)


def test_later_epochs_begin_anywhere() -> None:
    def first(epoch: int) -> int:
        order = LengthGroups(MANY, 4, seed=1)
        order.set_epoch(epoch)
        return MANY[next(iter(order))]

    assert len({first(epoch) for epoch in range(1, 9)}) > 4


def test_groups_of_one_are_a_random_order() -> None:
    order = list(LengthGroups(MANY, 1, seed=1))[1:]
    steps = [abs(MANY[a] - MANY[b]) for a, b in itertools.pairwise(order)]
    assert 280 < sum(steps) / len(steps) < 390  # a third of the range, by chance
