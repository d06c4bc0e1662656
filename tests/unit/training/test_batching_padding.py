import torch

from tasks.core.training.batching.padding import Collator


def example(*ids: int) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor(ids) * 10}


def test_a_batch_is_padded_to_the_longest_rounded_up_to_eight() -> None:
    batch = Collator(pad_token_id=9)([example(1, 2), example(*range(9))])
    assert set(batch) == {"input_ids", "labels", "attention_mask"}
    assert all(tensor.shape == (2, 16) for tensor in batch.values())
    assert batch["input_ids"][0].tolist() == [1, 2] + [9] * 14
    assert batch["labels"][0].tolist() == [10, 20] + [-100] * 14
    assert batch["attention_mask"].sum(dim=1).tolist() == [2, 9]


def test_a_full_multiple_gets_no_padding() -> None:
    assert Collator(0)([example(*range(8))])["input_ids"].shape == (1, 8)
