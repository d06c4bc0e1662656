from tasks.core.training.events import StepDone, from_line, to_line

STEP = StepDone(
    step=3,
    total_steps=24,
    loss=2.13449,
    learning_rate=9.8e-4,
    tokens_per_s=412.4,
    memory_bytes=1_320_000_000,
    left_s=131.4,
)


def test_a_step_comes_back_from_its_line_and_nothing_else_does() -> None:
    assert from_line(to_line(STEP)) == STEP
    assert from_line("step 3/24") is None


def test_a_step_reads_as_one_line_with_units() -> None:
    assert str(STEP) == (
        "step 3/24, loss 2.1345, learning rate 9.80e-04, 412 tokens/s, 1.32 GB, 0:02:11 left"
    )
