"""Attention within conversations, against the mask that transformers builds for the same rows."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel

from tasks.core.recipe import Finetune
from tasks.core.training.batching.packing import PackedCollator, joined
from tasks.core.training.model.base_model import read_base_model
from tasks.core.training.model.packed_attention import attend_within, attends_within, bounds_of

CPU = torch.device("cpu")
PACKED = Finetune(device="cpu", precision="float32", batching="pack")


@pytest.fixture
def packed(edited: Path) -> Iterator[PreTrainedModel]:
    yield read_base_model(edited, PACKED, CPU)


def batch(*rows: list[int]) -> dict[str, torch.Tensor]:
    """Return rows of conversations of these lengths."""
    random = torch.Generator().manual_seed(len(rows))
    made = [[torch.randint(3, 320, (n,), generator=random) for n in row] for row in rows]
    whole = [joined([{"input_ids": ids, "labels": ids} for ids in row]) for row in made]
    return PackedCollator(0)(whole)


def gradients(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    model.zero_grad()
    model(**inputs).loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_bounds_are_those_of_conversations_and_of_the_padding() -> None:
    found = bounds_of(batch([3, 5], [6])["position_ids"])
    assert found["cu_seq_lens_q"].tolist() == [0, 3, 8, 14, 16]
    assert found["max_length_q"] == 6


@pytest.mark.parametrize("rows", [([17, 1, 30],), ([17, 30], [9])], ids=["one row", "two rows"])
def test_loss_and_gradients_are_those_of_the_masked_attention(
    edited: Path, packed: PreTrainedModel, rows: tuple[list[int], ...]
) -> None:
    masked = AutoModelForCausalLM.from_pretrained(
        edited, dtype=torch.float32, trust_remote_code=True
    )
    masked.config.use_cache = False
    inputs = batch(*rows)
    bounds = bounds_of(inputs["position_ids"])
    # Sums in another order: what a mask hides is no longer among them.
    torch.testing.assert_close(packed(**inputs, **bounds).loss, masked(**inputs).loss)
    for ours, theirs in zip(
        gradients(packed, inputs | bounds), gradients(masked, inputs), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_loss_in_16_bits_is_near_that_in_32(edited: Path, packed: PreTrainedModel) -> None:
    narrow = read_base_model(edited, PACKED.model_copy(update={"precision": "bfloat16"}), CPU)
    inputs = batch([170, 30, 1], [9])
    bounds = bounds_of(inputs["position_ids"])
    expected = packed(**inputs, **bounds).loss
    torch.testing.assert_close(narrow(**inputs, **bounds).loss, expected, rtol=1e-2, atol=0)


def test_a_conversation_is_the_same_alone_and_beside_others(packed: PreTrainedModel) -> None:
    inputs = batch([17, 30])
    beside = packed(**inputs, **bounds_of(inputs["position_ids"])).logits[0, :17]
    alone = {name: tensor[:, :17] for name, tensor in inputs.items()}
    got = packed(**alone, **bounds_of(alone["position_ids"])).logits[0]
    torch.testing.assert_close(got, beside)


def test_a_row_without_its_bounds_is_refused(packed: PreTrainedModel) -> None:
    with pytest.raises(TypeError, match="cu_seq_lens_q"):
        packed(**batch([5, 5]))


def test_only_packed_rows_and_a_forward_pass_of_transformers_own_get_it(edited: Path) -> None:
    class Foreign(LlamaForCausalLM):
        def forward(self, input_ids: object = None, **_: object) -> None:  # type: ignore[override]
            raise NotImplementedError

    padded = read_base_model(edited, PACKED.model_copy(update={"batching": "pad"}), CPU)
    foreign = Foreign(padded.config)
    attend_within(foreign)
    assert not attends_within(padded)
    assert not attends_within(foreign)
