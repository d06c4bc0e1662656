import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.planning.batch import total_steps
from tasks.core.recipe import Finetune


@given(
    examples=st.integers(1, 500),
    epochs=st.sampled_from([0.5, 1, 2, 3]),
    global_batch=st.sampled_from([4, 8, 32]),
    micro=st.sampled_from([1, 2, 4]),
)
def test_steps_do_not_depend_on_how_the_global_batch_is_divided(
    examples: int, epochs: float, global_batch: int, micro: int
) -> None:
    one = Finetune(epochs=epochs, micro_batch_size=1, gradient_accumulation_steps=global_batch)
    other = Finetune(
        epochs=epochs, micro_batch_size=micro, gradient_accumulation_steps=global_batch // micro
    )
    assert total_steps(one, examples) == total_steps(other, examples) >= 1


@pytest.mark.parametrize(("max_steps", "steps"), [(None, 6), (4, 4), (9, 6)])
def test_max_steps_only_ends_earlier(max_steps: int | None, steps: int) -> None:
    settings = Finetune(
        epochs=3, micro_batch_size=2, gradient_accumulation_steps=4, max_steps=max_steps
    )
    assert total_steps(settings, examples=9) == steps
