import pytest

from tasks.core.training.events import (
    MicroBatchDone,
    StepDone,
    TrainingEvent,
    ValidationBatchDone,
    ValidationDone,
    from_line,
    to_line,
)

STEP = StepDone(
    step=3,
    total_steps=24,
    loss=2.13449,
    learning_rate=9.8e-4,
    tokens_per_s=412.4,
    memory_bytes=1_320_000_000,
    left_s=131.4,
)
MICRO_BATCH = MicroBatchDone(
    step=3, total_steps=24, micro_batch=1, micro_batches=2, elapsed_s=41.2, left_s=1_931.4
)

VALIDATION_BATCH = ValidationBatchDone(step=3, total_steps=24, micro_batch=1, micro_batches=9)
VALIDATION = ValidationDone(step=3, total_steps=24, loss=2.13449, tokens=12_345, wall_s=7.6)


@pytest.mark.parametrize("event", [STEP, MICRO_BATCH, VALIDATION_BATCH, VALIDATION])
def test_an_event_comes_back_from_its_line(event: TrainingEvent) -> None:
    assert from_line(to_line(event)) == event


def test_nothing_else_is_taken_for_an_event() -> None:
    assert from_line("step 3/24") is None
    assert from_line("micro batch 1 of 2") is None


def test_a_step_reads_as_one_line_with_units() -> None:
    assert str(STEP) == (
        "step 3/24, loss 2.1345, learning rate 9.80e-04, 412 tokens/s, 1.32 GB, 0:02:11 left"
    )


def test_a_micro_batch_reads_as_one_line_that_does_not_look_like_a_step() -> None:
    assert str(MICRO_BATCH) == (
        "micro batch 1 of 2 in step 3/24, 0:00:41 into the step, 0:32:11 left"
    )


def test_a_validation_reads_as_one_line_with_its_step() -> None:
    assert str(VALIDATION) == ("validation loss 2.1345 after step 3/24, 12,345 tokens, 0:00:08")
    assert str(VALIDATION_BATCH) == "validation after step 3/24, micro batch 1 of 9"


def test_a_step_counts_as_done_only_after_its_last_micro_batch() -> None:
    assert (STEP.steps_done, MICRO_BATCH.steps_done, VALIDATION.steps_done) == (3, 2, 3)
