from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.planning.batch import total_steps
from tasks.core.recipe import Finetune
from tasks.core.training.job import (
    Failure,
    LoggedStep,
    Outcome,
    Reason,
    failure_file,
    read_failures,
    read_outcome,
)


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


def test_failures_are_read_back_by_rank(tmp_path: Path) -> None:
    outcome = tmp_path / "outcome.json"
    assert read_failures(outcome) == ()
    for rank in (1, 0):
        failure = Failure(rank=rank, reason=Reason.LOST_PEER, error=f"of {rank}")
        failure.write(failure_file(outcome, rank))
    assert [failure.error for failure in read_failures(outcome)] == ["of 0", "of 1"]


def test_an_outcome_is_read_back_and_one_of_another_version_is_none(tmp_path: Path) -> None:
    path = tmp_path / "outcome.json"
    assert read_outcome(path) is None
    path.write_text('{"steps": [], "tokens": 9, "validation_loss": null}')  # as it once was
    assert read_outcome(path) is None
    steps = (LoggedStep(step=1, loss=2.5, learning_rate=1e-3),)
    outcome = Outcome(steps=steps, tokens=9, validation=(), validation_tokens=0)
    outcome.write(path)
    assert read_outcome(path) == outcome
