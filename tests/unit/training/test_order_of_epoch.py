"""What a resumed epoch trains on, with the data loaders of several processes."""

import pytest
from accelerate.data_loader import BatchSamplerShard, DataLoaderShard, skip_first_batches
from torch.utils.data import DataLoader
from transformers import TrainerControl, TrainerState, TrainingArguments

from tasks.core.training.batching.grouping import LengthGroups
from tasks.core.training.trainer.callbacks import OrderOfEpoch

EXAMPLES = 8


def loader_of(order: LengthGroups, process: int) -> DataLoaderShard:
    """Return the batches of one of two processes, one example each, as accelerate makes them."""
    whole = DataLoader(range(EXAMPLES), batch_size=1, sampler=order)  # type: ignore[arg-type]
    shard = BatchSamplerShard(whole.batch_sampler, num_processes=2, process_index=process)
    return DataLoaderShard(range(EXAMPLES), batch_sampler=shard)


def order() -> LengthGroups:
    return LengthGroups([1] * EXAMPLES, 1, seed=7)


def of_second_epoch(process: int) -> list[int]:
    told = order()
    told.set_epoch(1)
    return list(told)[process::2]


@pytest.mark.parametrize("process", [0, 1])
def test_a_resumed_epoch_goes_on_in_its_own_order(process: int) -> None:
    resumed = order()
    state = TrainerState(epoch=1.5)
    OrderOfEpoch(resumed).on_epoch_begin(TrainingArguments(use_cpu=True), state, TrainerControl())
    rest = skip_first_batches(loader_of(resumed, process), 2)
    rest.set_epoch(1)
    assert [int(each) for batch in rest for each in batch] == of_second_epoch(process)[2:]


@pytest.mark.parametrize("process", [0, 1])
def test_the_data_loader_alone_does_not_tell_it(process: int) -> None:
    """Once this fails, `OrderOfEpoch` is no longer needed."""
    rest = skip_first_batches(loader_of(order(), process), 2)
    rest.set_epoch(1)
    assert [int(each) for batch in rest for each in batch] != of_second_epoch(process)[2:]
