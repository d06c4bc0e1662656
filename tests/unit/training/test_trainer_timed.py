"""Checkpoints that are due by time, with a clock that the test holds."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from transformers import (
    LlamaForCausalLM,
    Trainer,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from tasks.core.conversation.examples.file import ExampleFile
from tasks.core.conversation.examples.writer import Example, ExampleWriter
from tasks.core.recipe import Finetune
from tasks.core.training.batching.choice import batching_of
from tasks.core.training.checkpoints.directory import DIVISION, last_whole, step_of
from tasks.core.training.job import OPERATING
from tasks.core.training.prepare import FREE
from tasks.core.training.rung_records import _WITHOUT_MEMORY
from tasks.core.training.trainer.adapter_trainer import AdapterTrainer
from tasks.core.training.trainer.callbacks import WholeCheckpoints
from tasks.core.training.trainer.stop_request import StopRequest
from tasks.core.training.trainer.timed import TimedCheckpoints
from tests.models import tiny_llama

STEPS = 6
STEP_S = 60.0


class Clock:
    """Goes on by a minute each time that it is read: once a step, and once a checkpoint."""

    now_s = 0.0

    def __call__(self) -> float:
        self.now_s += STEP_S
        return self.now_s


class WithoutDeepSpeed(AdapterTrainer):
    """The trainer in this process: the states for other divisions need DeepSpeed's engine."""

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        Trainer._save_optimizer_and_scheduler(self, output_dir)
        (Path(output_dir) / DIVISION).write_text("one")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("model"), layers=1)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> ExampleFile:
    path = tmp_path_factory.mktemp("examples") / "train.safetensors"
    torch.manual_seed(0)
    with ExampleWriter(path) as writer:
        for length in range(6, 18):
            ids = torch.randint(3, 320, (length,)).tolist()
            writer.add(Example(input_ids=ids, labels=ids, dropped_answers=0))
        writer.finish()
    return ExampleFile(path)


def trained(
    saved: Path, examples: ExampleFile, out: Path, every_s: float, resume_from: Path | None = None
) -> dict[str, torch.Tensor]:
    batching = batching_of(Finetune(device="cpu"), examples, pad_token_id=2)
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=STEPS,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        save_steps=1000,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    set_seed(42)
    base: Any = LlamaForCausalLM.from_pretrained(saved, dtype=torch.float32)
    trainer = WithoutDeepSpeed(
        model=get_peft_model(base, LoraConfig(target_modules=["q_proj"], lora_dropout=0.1)),
        args=arguments,
        division="one",
        train_dataset=batching.rows,
        data_collator=batching.collate,
        callbacks=[TimedCheckpoints(every_s, Clock()), WholeCheckpoints(10)],
    )
    trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    return {n: p.detach().clone() for n, p in base.named_parameters() if p.requires_grad}


def steps(out: Path) -> list[int]:
    return sorted(step_of(path) for path in out.glob("checkpoint-*"))


def test_a_checkpoint_is_due_by_time_and_changes_no_bit(
    saved: Path, examples: ExampleFile, tmp_path: Path
) -> None:
    undisturbed = trained(saved, examples, tmp_path / "never", 1e9)
    watched = trained(saved, examples, tmp_path / "often", 3 * STEP_S)
    assert steps(tmp_path / "never") == []
    assert steps(tmp_path / "often") == [3]  # at 6 the training ends, and needs none
    last = last_whole(tmp_path / "often")
    resumed = trained(saved, examples, tmp_path / "often", 1e9, resume_from=last)
    for name, weight in undisturbed.items():
        assert torch.equal(watched[name], weight)
        assert torch.equal(resumed[name], weight)


def decide(rank: int, out: Path, due: int | None, asked: int | None) -> None:
    """One of two processes after a step; it writes down what it has decided."""
    rendezvous = f"file://{out / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    arguments = TrainingArguments(output_dir=str(out), use_cpu=True, report_to="none")
    ask = StopRequest()
    ask.is_asked = rank == asked
    in_time = TimedCheckpoints(0.0 if rank == due else 1e9, Clock(), ask)
    control = TrainerControl()
    in_time.on_step_end(arguments, TrainerState(), control)
    (out / str(rank)).write_text(f"{control.should_save} {control.should_training_stop}")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("due", "asked", "decided"),
    [
        (0, None, "True False"),
        (1, None, "False False"),
        (None, 0, "True True"),
        (None, 1, "True True"),
    ],
)
def test_all_save_by_the_clock_of_the_first_and_end_when_any_is_asked_to(
    tmp_path: Path, due: int | None, asked: int | None, decided: str
) -> None:
    torch.multiprocessing.spawn(decide, args=(tmp_path, due, asked), nprocs=2)
    assert [(tmp_path / str(rank)).read_text() for rank in (0, 1)] == [decided, decided]


def test_the_time_between_checkpoints_is_no_part_of_what_a_training_is() -> None:
    assert "save_interval_s" in OPERATING & FREE & _WITHOUT_MEMORY
