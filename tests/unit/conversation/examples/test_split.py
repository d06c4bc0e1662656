from hypothesis import given
from hypothesis import strategies as st

from tasks.core.conversation.examples.split import copies_per_epoch, is_validation
from tasks.core.conversation.records import Conversation, Turn

MANY = [Conversation(str(i), (Turn("human", f"h{i}"), Turn("gpt", f"g{i}"))) for i in range(400)]


@given(st.sampled_from(MANY), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_never_moves_a_record_back(
    conversation: Conversation, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    assert is_validation(conversation, large) or not is_validation(conversation, small)


def test_a_copy_under_another_id_stands_on_the_same_side() -> None:
    again = [Conversation("copy", c.turns) for c in MANY]
    assert [is_validation(c, 0.3) for c in again] == [is_validation(c, 0.3) for c in MANY]


def test_another_word_or_system_message_is_another_record() -> None:
    others = [Conversation(c.id, c.turns, "Jawab singkat.") for c in MANY]
    assert [is_validation(c, 0.5) for c in others] != [is_validation(c, 0.5) for c in MANY]


def test_the_share_is_kept_about() -> None:
    # 400 draws at 0.1: mean 40, standard deviation 6; five of them on either side.
    assert 10 < sum(is_validation(c, 0.1) for c in MANY) < 70
    assert not any(is_validation(c, 0.0) for c in MANY)


def test_a_whole_weight_is_that_many_copies_of_each() -> None:
    assert {copies_per_epoch(c, 1.0) for c in MANY} == {1}
    assert {copies_per_epoch(c, 3.0) for c in MANY} == {3}


def test_a_larger_weight_never_takes_a_conversation_back() -> None:
    small, large = ([copies_per_epoch(c, weight) for c in MANY] for weight in (0.4, 0.7))
    assert all(one <= other for one, other in zip(small, large, strict=True))


def test_a_half_is_about_half_on_either_side_of_the_division() -> None:
    # 200 draws of 0.5 on each side: mean 100, standard deviation 7; five of them on either side.
    for side in (True, False):
        here = [c for c in MANY if is_validation(c, 0.5) == side]
        assert 0.32 < sum(copies_per_epoch(c, 0.5) for c in here) / len(here) < 0.68
    assert 500 < sum(copies_per_epoch(c, 1.5) for c in MANY) < 700


def test_a_copy_under_another_id_is_learned_as_often() -> None:
    again = [Conversation("copy", c.turns) for c in MANY]
    assert [copies_per_epoch(c, 0.5) for c in again] == [copies_per_epoch(c, 0.5) for c in MANY]
