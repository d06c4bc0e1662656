from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from tasks.core.architecture.edit import edit_model
from tasks.core.conversation.examples.labels import IGNORED
from tasks.core.errors import RecipeError
from tasks.core.recipe import Edit
from tasks.core.training.batching.packing import PackedCollator, joined, pack, require_packable
from tests.models import tiny_llama

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("model") / "plain", dtype="float32")


def loaded(directory: Path, attention: str) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation=attention, trust_remote_code=True
    )
    model.config.use_cache = False
    return model


def examples(seed: int, lengths: list[int]) -> list[Tensors]:
    random = torch.Generator().manual_seed(seed)
    made = []
    for length in lengths:
        ids = torch.randint(3, 320, (length,), generator=random)
        learned = torch.rand(length, generator=random) < 0.6
        made.append({"input_ids": ids, "labels": torch.where(learned, ids, IGNORED)})
    return made


def alone(model: PreTrainedModel, example: Tensors) -> torch.Tensor:
    """Return the losses of a conversation by itself, (T - 1,), 0 where nothing is learned."""
    logits = model(example["input_ids"][None]).logits[0, :-1]
    return cross_entropy(logits, example["labels"][1:], reduction="none")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("edited", [False, True], ids=["plain", "edited"])
def test_losses_in_a_row_are_those_of_the_conversations_alone(
    directory: Path, tmp_path: Path, attention: str, edited: bool
) -> None:
    if edited:
        tmp_path.joinpath("edited").mkdir()
        edit_model(directory, Edit(), tmp_path / "edited")
        directory = tmp_path / "edited"
    model = loaded(directory, attention)
    require_packable(model.config)
    rows = [examples(1, [17, 5, 40]), examples(2, [23, 2, 11])]
    batch = PackedCollator(0)([joined(row) for row in rows])
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"]).logits[
            :, :-1
        ]
        packed = cross_entropy(logits.mT, batch["labels"][:, 1:], reduction="none")
        for row, losses in zip(rows, packed, strict=True):
            start = 0
            for example in row:
                length = len(example["input_ids"])
                expected = alone(model, example)
                assert torch.allclose(losses[start : start + length - 1], expected, atol=1e-4)
                start += length
            assert not losses[start - 1 :].any()  # the padding is not learned


def test_the_mean_loss_and_gradient_are_those_of_padded_batches(directory: Path) -> None:
    model = loaded(directory, "sdpa")
    row = examples(3, [9, 30, 14])
    batch = PackedCollator(0)([joined(row)])
    model(**batch).loss.backward()
    packed = model.get_input_embeddings().weight.grad.clone()
    model.zero_grad()
    learned = sum(int((e["labels"][1:] != IGNORED).sum()) for e in row)
    (sum(alone(model, e).sum() for e in row) / learned).backward()  # type: ignore[union-attr]
    assert torch.allclose(packed, model.get_input_embeddings().weight.grad, atol=1e-5)


def test_a_cache_would_let_conversations_see_each_other_and_is_refused(directory: Path) -> None:
    # What the refusal guards against: the same call, with the cache on, gives other losses.
    model = loaded(directory, "sdpa")
    row = examples(4, [20, 20])
    batch = PackedCollator(0)([joined(row)])
    with torch.no_grad():
        apart = model(**batch).loss
        model.config.use_cache = True
        mixed = model(**batch).loss
    assert abs(apart - mixed) > 1e-4
    with pytest.raises(RecipeError, match=r"attend to each other[\s\S]*cache on"):
        require_packable(model.config)


def test_attention_that_looks_at_the_ids_of_one_row_only_is_refused() -> None:
    config = LlamaConfig(use_cache=False, attn_implementation="flash_attention_2")
    with pytest.raises(RecipeError, match="flash_attention_2"):
        require_packable(config)


def test_rows_are_padded_to_a_multiple_of_eight() -> None:
    batch = PackedCollator(7)([joined(examples(5, [3, 4])), joined(examples(6, [10]))])
    assert batch["input_ids"].shape == batch["position_ids"].shape == (2, 16)
    assert batch["input_ids"][0, 7:].tolist() == [7] * 9
    assert batch["position_ids"][0].tolist() == [0, 1, 2, 0, 1, 2, 3, *range(9)]
    assert set(batch["labels"][0, 7:].tolist()) == {IGNORED}


def test_the_first_token_is_not_predicted_by_the_conversation_before() -> None:
    row = [{"input_ids": torch.tensor([5, 6]), "labels": torch.tensor([5, 6])}] * 2
    assert joined(row)["labels"].tolist() == [IGNORED, 6, IGNORED, 6]
    assert row[0]["labels"].tolist() == [5, 6]


@given(st.lists(st.integers(1, 100), min_size=1, max_size=60), st.integers(60, 100))
def test_every_example_stands_in_one_row_that_holds_it(lengths: list[int], tokens: int) -> None:
    rows = pack(lengths, tokens)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(len(row) == 1 or sum(lengths[i] for i in row) <= tokens for row in rows)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=60))
def test_no_two_rows_would_fit_into_one(lengths: list[int]) -> None:
    filled = sorted(sum(lengths[i] for i in row) for row in pack(lengths, 100))
    assert len(filled) == 1 or filled[0] + filled[1] > 100


def test_a_long_tail_is_packed_almost_full() -> None:
    lengths = [(i * 7919) % 900 + 20 for i in range(400)] + [2048] * 20
    assert sum(lengths) / (2048 * len(pack(lengths, 2048))) > 0.98
