from hypothesis import given
from hypothesis import strategies as st

from tasks.core.conversation.records import Conversation, Turn
from tasks.core.conversation.split import split

MANY = [Conversation(str(i), (Turn("human", f"h{i}"), Turn("gpt", f"g{i}"))) for i in range(400)]


@given(st.permutations(range(40)), st.integers(0, 40))
def test_adding_and_reordering_never_moves_a_record(order: list[int], count: int) -> None:
    whole = set(split(MANY, 0.3).validation)
    part = split([MANY[i] for i in order[:count]], 0.3)
    assert set(part.validation) == whole & {MANY[i] for i in order[:count]}
    assert len(part.training) + len(part.validation) == count


def test_a_copy_under_another_id_stands_on_the_same_side() -> None:
    copies = [Conversation("copy", c.turns) for c in MANY]
    assert len(split(copies, 0.3).validation) == len(split(MANY, 0.3).validation)


def test_the_share_is_kept_about() -> None:
    # 400 draws at 0.1: mean 40, standard deviation 6; five of them on either side.
    assert 10 < len(split(MANY, 0.1).validation) < 70
    assert split(MANY, 0.0).validation == ()
