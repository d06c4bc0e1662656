"""A training that is cut off on one machine is gone on with on another, to the same bits."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tasks.core.keys import stage_key
from tasks.core.store import RemoteStore, Staging, Store
from tasks.core.training.attempt import TrainedAdapter
from tasks.core.training.checkpoints.directory import CHECKPOINTS, whole_state
from tasks.core.training.failures import TrainingStopped
from tasks.core.training.result import WORK_DIRECTORY
from tests.models import tiny_llama
from tests.unit.training.test_attempt import data, killing_trainers_at, train

__all__ = ["data"]  # the fixture

MODEL, ADAPTER = stage_key("download", 1, {}), stage_key("finetune", 1, {})


def trained(store: Store, data: Path, *, killed_at: int | None = None) -> TrainedAdapter:
    """Train as the stage does, on the model of the store."""
    results: list[TrainedAdapter] = []
    model = store.build(MODEL, _model).artifact

    def write(staging: Staging) -> None:
        kill = (
            {} if killed_at is None else {"on_line": killing_trainers_at(killed_at, staging.path)}
        )
        with staging.handed_over(lambda: whole_state(staging.path / WORK_DIRECTORY / CHECKPOINTS)):
            results.append(train(model.path, data, staging.path, **kill))

    store.build(ADAPTER, write, inputs={"model": model.digest})
    return results[0]


def _model(staging: Staging) -> None:
    tiny_llama(staging.path, layers=2)


def adapter(home: Path) -> dict[str, torch.Tensor]:
    return load_file(Store(home).path_of(ADAPTER) / "adapter" / "adapter_model.safetensors")


@pytest.mark.slow
def test_a_training_cut_off_on_one_machine_ends_on_another_with_the_same_bits(
    tmp_path: Path, data: Path
) -> None:
    (tmp_path / "shared").mkdir()
    remote = RemoteStore.open(f"file://{tmp_path}/shared")
    with pytest.raises(TrainingStopped):
        trained(Store(tmp_path / "first", remote=remote), data, killed_at=5)
    second = trained(Store(tmp_path / "second", remote=remote), data)
    assert (second.resumed_from_step, second.restarted_for) == (4, ())
    trained(Store(tmp_path / "undisturbed"), data)
    ours, undisturbed = adapter(tmp_path / "second"), adapter(tmp_path / "undisturbed")
    assert ours.keys() == undisturbed.keys()
    assert all(torch.equal(ours[name], undisturbed[name]) for name in ours)
    assert remote.place.files("staging") == {}
