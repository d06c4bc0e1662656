"""The state of a training after a power cut: a checkpoint that counts is whole, and is its own."""

import json
from pathlib import Path

import pytest

from tasks.core.training.checkpoints.directory import (
    CHECKPOINTS,
    adopt,
    last_whole,
    mark_whole,
    prune_checkpoints,
    remove_work,
)
from tests.power.recorder import Recording, recorded

_OUTCOME = "outcome.json"


def _begin(work: Path, training: str) -> None:
    adopt(work / CHECKPOINTS, {"data": training}, work / _OUTCOME)


def _checkpoint(work: Path, training: str, step: int) -> None:
    path = work / CHECKPOINTS / f"checkpoint-{step}"
    (path / f"global_step{step}").mkdir(parents=True)
    (path / f"global_step{step}" / "states.pt").write_text(f"states of {training} at {step}" * 50)
    (path / "rng.pth").write_text(f"rng of {training} at {step}")
    mark_whole(path)


def _look(work: Path, promised: frozenset[str]) -> None:
    """Raise unless what a training would go on from is whole, and belongs to it."""
    identity = work / CHECKPOINTS / "identity.json"
    training = json.loads(identity.read_bytes())["data"] if identity.exists() else None
    last, step = last_whole(work / CHECKPOINTS), 0
    if last is not None and training is not None:  # without an identity it begins anew
        step = int(last.name.partition("-")[2])
        states = (last / f"global_step{step}" / "states.pt").read_text()
        assert states == f"states of {training} at {step}" * 50
        assert (last / "rng.pth").read_text() == f"rng of {training} at {step}"
    if training is not None and (work / _OUTCOME).exists():
        assert (work / _OUTCOME).read_text() == training
    for promise in promised:
        assert step >= int(promise), "the checkpoint that was declared whole"


@pytest.fixture
def trained(disk: Path) -> Recording:
    with recorded(disk) as recording:
        _begin(disk, "one")
        _checkpoint(disk, "one", 1)
        recording.promise("1")
        _checkpoint(disk, "one", 2)
        recording.promise("2")
        prune_checkpoints(disk / CHECKPOINTS, keep=1)
    return recording


def test_a_checkpoint_that_counts_is_whole_and_stays(trained, survey):
    assert survey(trained, _look).wrong == ()


@pytest.mark.parametrize(
    "sync",
    [
        pytest.param("*/states.pt", id="the bytes of the states"),
        pytest.param("*/global_step1", id="the name of the states"),
        pytest.param("*/checkpoint-1", id="the name of the marker"),
        pytest.param(CHECKPOINTS, id="the names of the checkpoints"),
        pytest.param(".", id="the name of them all"),
    ],
)
def test_each_sync_before_and_behind_the_marker_is_needed(trained, is_needed, sync):
    assert is_needed(trained, _look, sync)


def test_a_checkpoint_is_not_whole_any_more_before_its_files_go(disk, survey, is_needed):
    _begin(disk, "one")
    _checkpoint(disk, "one", 1)
    _checkpoint(disk, "one", 2)
    with recorded(disk) as recording:
        prune_checkpoints(disk / CHECKPOINTS, keep=0)
    assert survey(recording, _look).wrong == ()
    assert is_needed(recording, _look, "*/checkpoint-?")


def test_half_of_what_a_finished_training_leaves_is_no_checkpoint(disk, survey, is_needed):
    def look(root: Path, promised: frozenset[str]) -> None:
        _look(root / "work", promised)

    (disk / "work").mkdir()
    _begin(disk / "work", "one")
    _checkpoint(disk / "work", "one", 1)
    (disk / "work" / _OUTCOME).write_text("one")
    with recorded(disk) as recording:
        remove_work(disk / "work")
    assert survey(recording, look).wrong == ()
    assert is_needed(recording, look, "*/checkpoint-1")


def test_another_training_takes_nothing_of_the_one_before_it(disk, survey, is_needed):
    _begin(disk, "one")
    _checkpoint(disk, "one", 1)
    (disk / _OUTCOME).write_text("one")
    with recorded(disk) as recording:
        _begin(disk, "two")
        _checkpoint(disk, "two", 3)
        recording.promise("3")
    assert survey(recording, _look).wrong == ()
    assert is_needed(recording, _look, ".")
