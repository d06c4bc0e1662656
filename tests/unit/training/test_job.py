from pathlib import Path

from tasks.core.training.job import LoggedStep, TrainingOutcome, read_training_outcome


def test_an_outcome_is_read_back_and_one_of_another_version_is_none(tmp_path: Path) -> None:
    path = tmp_path / "outcome.json"
    assert read_training_outcome(path) is None
    path.write_text('{"steps": [], "tokens": 9, "validation_loss": null}')  # as it once was
    assert read_training_outcome(path) is None
    steps = (LoggedStep(step=1, loss=2.5, learning_rate=1e-3),)
    outcome = TrainingOutcome(steps=steps, tokens=9, validation=(), validation_tokens=0)
    outcome.write(path)
    assert read_training_outcome(path) == outcome
