from hypothesis import given
from hypothesis import strategies as st

from tasks.core.conversation.records import Conversation, Turn
from tasks.core.conversation.split import is_validation

MANY = [Conversation(str(i), (Turn("human", f"h{i}"), Turn("gpt", f"g{i}"))) for i in range(400)]


@given(st.sampled_from(MANY), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_never_moves_a_record_back(
    conversation: Conversation, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    assert is_validation(conversation, large) or not is_validation(conversation, small)


def test_a_copy_under_another_id_stands_on_the_same_side() -> None:
    copies = [Conversation("copy", c.turns) for c in MANY]
    assert [is_validation(c, 0.3) for c in copies] == [is_validation(c, 0.3) for c in MANY]


def test_another_word_or_system_message_is_another_record() -> None:
    others = [Conversation(c.id, c.turns, "Jawab singkat.") for c in MANY]
    assert [is_validation(c, 0.5) for c in others] != [is_validation(c, 0.5) for c in MANY]


def test_the_share_is_kept_about() -> None:
    # 400 draws at 0.1: mean 40, standard deviation 6; five of them on either side.
    assert 10 < sum(is_validation(c, 0.1) for c in MANY) < 70
    assert not any(is_validation(c, 0.0) for c in MANY)
