from hypothesis import given
from hypothesis import strategies as st

from tasks.core.conversation.checking.lengths import Lengths


@given(st.lists(st.integers(0, 1 << 30), min_size=1))
def test_every_length_is_counted_in_the_class_that_holds_it(lengths: list[int]) -> None:
    counted = Lengths("tokens")
    for length in lengths:
        counted.add(length)
    classes = list(counted.classes())
    assert all(
        c.conversations == sum(c.start <= length < c.stop for length in lengths) for c in classes
    )
    assert sum(c.conversations for c in classes) == len(lengths)
    assert classes[0].conversations and classes[-1].conversations


def test_what_is_taken_back_leaves_no_trace() -> None:
    counted = Lengths("tokens")
    counted.add(5)
    counted.add(500)
    counted.remove(500)
    assert [(c.start, c.stop, c.conversations) for c in counted.classes()] == [(4, 6, 1)]
