import shutil
from pathlib import Path

import pytest

from tasks.core.training.checkpoints.directory import (
    CHECKPOINTS,
    DIVISION,
    MARKER,
    PORTABLE,
    adopt,
    can_resume,
    last_whole,
    mark_whole,
    prune_checkpoints,
    remove_work,
    step_of,
    whole_state,
)

IDENTITY = {"learning_rate": 1e-3, "lora.r": 8, "data": "abc"}
OUTCOME = "outcome.json"


def checkpoint(directory: Path, step: int, *, whole: bool = True) -> Path:
    path = directory / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "state.pt").write_bytes(b"state")
    if whole:
        mark_whole(path)
    return path


def steps(directory: Path) -> list[int]:
    return sorted(step_of(path) for path in directory.glob("checkpoint-*"))


def test_a_checkpoint_without_its_marker_is_never_taken(tmp_path: Path) -> None:
    checkpoint(tmp_path, 2)
    checkpoint(tmp_path, 10, whole=False)
    assert last_whole(tmp_path) == tmp_path / "checkpoint-2"


def test_the_last_is_the_one_with_the_most_steps(tmp_path: Path) -> None:
    for step in (100, 20, 3):
        checkpoint(tmp_path, step)
    assert last_whole(tmp_path) == tmp_path / "checkpoint-100"
    assert last_whole(tmp_path / "nowhere") is None


def test_pruning_keeps_the_last_whole_ones(tmp_path: Path) -> None:
    for step in (1, 2, 30):
        checkpoint(tmp_path, step)
    checkpoint(tmp_path, 40, whole=False)
    prune_checkpoints(tmp_path, keep=5)
    assert steps(tmp_path) == [1, 2, 30]
    prune_checkpoints(tmp_path, keep=2)
    assert steps(tmp_path) == [2, 30]
    prune_checkpoints(tmp_path, keep=0)
    assert steps(tmp_path) == []


def test_another_machine_goes_on_from_the_last_whole_checkpoint_of_a_known_training(
    tmp_path: Path,
) -> None:
    adopt(tmp_path, IDENTITY, tmp_path / OUTCOME)
    assert whole_state(tmp_path) == []
    checkpoint(tmp_path, 2)
    last = checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 30, whole=False)
    identity, state = whole_state(tmp_path)
    assert identity.is_file()
    assert state == last


def test_work_that_is_half_removed_holds_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path / CHECKPOINTS, 3)
    remove = shutil.rmtree

    def killed(path: Path) -> None:
        if path == tmp_path:
            raise KeyboardInterrupt
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove_work(tmp_path)
    assert last_whole(tmp_path / CHECKPOINTS) is None


def test_the_same_training_keeps_its_checkpoints(tmp_path: Path) -> None:
    assert adopt(tmp_path, IDENTITY, tmp_path / OUTCOME) == ()
    checkpoint(tmp_path, 3)
    assert adopt(tmp_path, dict(reversed(IDENTITY.items())), tmp_path / OUTCOME) == ()
    assert steps(tmp_path) == [3]


def test_another_training_starts_anew_and_says_what_differs(tmp_path: Path) -> None:
    adopt(tmp_path, IDENTITY, tmp_path / OUTCOME)
    checkpoint(tmp_path, 3)
    other = {"learning_rate": 2e-3, "lora.r": 8, "data": "def", "seed": 1}
    assert adopt(tmp_path, other, tmp_path / OUTCOME) == ("data", "learning_rate", "seed")
    assert steps(tmp_path) == []
    assert adopt(tmp_path, other, tmp_path / OUTCOME) == ()


def test_the_outcome_of_another_training_goes_before_its_place_has_a_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the two left an outcome that the new training took for its own."""
    adopt(tmp_path, IDENTITY, tmp_path / OUTCOME)
    (tmp_path / OUTCOME).write_text("{}")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tasks.core.training.checkpoints.directory.write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        adopt(tmp_path, {"data": "def"}, tmp_path / OUTCOME)
    assert not (tmp_path / OUTCOME).exists()


def test_checkpoints_of_an_unknown_training_are_removed(tmp_path: Path) -> None:
    checkpoint(tmp_path, 3)
    assert adopt(tmp_path, IDENTITY, tmp_path / OUTCOME) == ()
    assert steps(tmp_path) == []


@pytest.mark.parametrize("damaged", ["", "{", "[]", "[" * 100_000])
def test_a_damaged_identity_is_that_of_another_training(tmp_path: Path, damaged: str) -> None:
    adopt(tmp_path, IDENTITY, tmp_path / OUTCOME)
    (identity,) = tmp_path.iterdir()
    checkpoint(tmp_path, 3)
    identity.write_text(damaged)
    assert adopt(tmp_path, IDENTITY, tmp_path / OUTCOME) == tuple(sorted(IDENTITY))
    assert steps(tmp_path) == []


def test_another_division_of_the_states_needs_the_portable_part(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    (path / DIVISION).write_text("ZeRO-2")
    assert can_resume(path, "ZeRO-2")
    assert not can_resume(path, "ZeRO-3")
    (path / PORTABLE).touch()
    assert can_resume(path, "ZeRO-3")


def test_marking_comes_after_the_bytes(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 7, whole=False)
    assert not (path / MARKER).exists()
    mark_whole(path)
    assert (path / MARKER).read_text() == '{"step": 7}'
