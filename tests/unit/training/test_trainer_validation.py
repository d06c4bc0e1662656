"""The validation loss: the same whatever the batches are, and without a trace in the training."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM, TrainingArguments

from tasks.core.conversation.examples.file import ExampleFile
from tasks.core.conversation.examples.labels import IGNORED, Example
from tasks.core.conversation.examples.writer import ExampleWriter
from tasks.core.recipe import Finetune
from tasks.core.training.batching.choice import batching_of
from tasks.core.training.trainer.adapter_trainer import AdapterTrainer
from tasks.core.training.trainer.validation import LossSum, rows_of_process, validation_interval
from tests.models import tiny_llama

LENGTHS = ((9, 1), (30, 20), (17, 3), (12, 11), (40, 2))
"""Tokens of an example, and how many of them are learned."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("model"), layers=1)


@pytest.fixture
def model(saved: Path) -> LlamaForCausalLM:
    loaded: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(saved, dtype=torch.float32)
    loaded.config.use_cache = False
    return loaded


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> ExampleFile:
    path = tmp_path_factory.mktemp("examples") / "validation.safetensors"
    torch.manual_seed(0)
    with ExampleWriter(path) as writer:
        for length, learned in LENGTHS:
            ids = torch.randint(3, 320, (length,)).tolist()
            labels = [IGNORED] * (length - learned) + ids[length - learned :]
            writer.add(Example(input_ids=ids, labels=labels, dropped_answers=0))
        writer.finish()
    return ExampleFile(path)


def trainer_of(
    model: LlamaForCausalLM, examples: ExampleFile, tmp_path: Path, **settings: Any
) -> AdapterTrainer:
    chosen = Finetune(device="cpu", precision="float32", **settings)
    batching = batching_of(chosen, examples, pad_token_id=2)
    peft = get_peft_model(model, LoraConfig(target_modules=["q_proj"], lora_dropout=0.5))
    args = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=chosen.micro_batch_size,
        use_cpu=True,
        report_to="none",
    )
    return AdapterTrainer(
        model=peft,
        args=args,
        division="one",
        eval_dataset=batching.rows,
        data_collator=batching.collate,
    )


def by_hand(model: LlamaForCausalLM, examples: ExampleFile) -> float:
    """Return the mean over all learned tokens, one example at a time."""
    nats, tokens = 0.0, 0
    for number in range(len(examples)):
        ids, labels = examples[number]["input_ids"], examples[number]["labels"]
        with torch.no_grad():
            logits = model(ids[None]).logits[0]
        nats += cross_entropy(logits[:-1], labels[1:], reduction="sum").item()
        tokens += int((labels[1:] != IGNORED).sum())
    return nats / tokens


@pytest.mark.parametrize("batching", ["pad", "group", "pack"])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 3, 8])
def test_the_loss_is_the_mean_of_all_learned_tokens_whatever_the_batches(
    model: LlamaForCausalLM,
    examples: ExampleFile,
    tmp_path: Path,
    micro_batch_size: int,
    batching: str,
) -> None:
    trainer = trainer_of(
        *(model, examples, tmp_path),
        micro_batch_size=micro_batch_size,
        batching=batching,
        max_length_tokens=64,
    )
    # A float32 sum in another order.
    assert trainer.evaluate()["eval_loss"] == pytest.approx(by_hand(model, examples), rel=1e-5)
    assert trainer.validation_tokens == sum(learned for _, learned in LENGTHS)
    assert trainer.state.log_history[-1]["eval_loss"] == trainer.evaluate()["eval_loss"]


def test_a_validation_leaves_the_random_numbers_of_the_training_alone(
    model: LlamaForCausalLM, examples: ExampleFile, tmp_path: Path
) -> None:
    trainer = trainer_of(model, examples, tmp_path)
    before = torch.get_rng_state()
    trainer.evaluate()
    assert torch.equal(torch.get_rng_state(), before)
    assert trainer.model.training


def batches(rows: int, micro_batch_size: int, processes: int) -> list[list[tuple[range, bool]]]:
    return [
        list(rows_of_process(rows, micro_batch_size, rank, processes)) for rank in range(processes)
    ]


@pytest.mark.parametrize(
    ("rows", "micro_batch_size", "processes"), [(5, 2, 2), (1, 4, 3), (7, 1, 4)]
)
def test_processes_share_the_rows_and_take_equally_many_batches(
    rows: int, micro_batch_size: int, processes: int
) -> None:
    shares = batches(rows, micro_batch_size, processes)
    counted = [row for share in shares for chosen, counts in share if counts for row in chosen]
    assert sorted(counted) == list(range(rows))
    assert len({len(share) for share in shares}) == 1
    assert all(len(chosen) for share in shares for chosen, _ in share)


def test_a_batch_without_a_learned_token_adds_nothing() -> None:
    sums = LossSum(torch.device("cpu"))
    assert math.isnan(sums.mean()[0])
    sums.add(torch.tensor(math.nan), torch.full((1, 4), IGNORED))
    sums.add(torch.tensor(2.0), torch.tensor([[IGNORED, 7, 8, IGNORED]]))
    assert sums.mean() == (2.0, 2)


@pytest.mark.parametrize("steps", [1, 3, 16, 1000])
@pytest.mark.parametrize("trained", [100.0, 5_000.0, 1e6])
@pytest.mark.parametrize("validated", [1, 90, 4_000])
def test_validations_are_few_and_take_a_tenth_at_most(
    steps: int, trained: float, validated: int
) -> None:
    interval = validation_interval(steps, trained, validated)
    times = math.ceil(steps / interval)
    assert 1 <= times <= 10
    assert times == 1 or times * validated / 2 <= trained / 10
