"""The trainings that are measured, each a program of its own: `python FILE KIND JOB`.

KIND is `ours`, `fastchat` or `trl`; JOB is a JSON file with the fields of `Job`. All read the same
tokens and labels and write a PEFT adapter. Each prints `@step N SECONDS` when a step is taken and
`@tokens N` at the end: how many tokens it has learned from that are no padding. `@first N` says how
many of them are in the first step, where that has more than the others.

FastChat's `train_lora.py` does not start under these versions (`transformers.deepspeed` is gone,
flash-attn is imported always, `Trainer(tokenizer=)` and `evaluation_strategy` are other names now),
so `fastchat` is a faithful copy of its settings: Trainer, PEFT, each conversation padded to
`model_max_length`, attention mask by the pad token, cosine schedule.
"""

import itertools
import json
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS = ("ours-pack", "ours-group", "fastchat", "trl")


@dataclass(frozen=True)
class Job:
    """What every contender is told. Paths as text; `rows_a_step` counts packs where it packs."""

    model: str
    data: str
    template: str
    examples: str
    adapter: str
    max_length_tokens: int
    conversations_a_step: int
    packs_a_step: int
    micro_batch_size: int
    epochs: float
    learning_rate: float
    lora_r: int
    lora_alpha: int
    lora_targets: list[str]
    bf16: bool
    seed: int


def ours(job: Job, batching: str) -> int:
    """Train with this project's own fine-tune; return the tokens learned from."""
    from tasks.core.recipe import Finetune, Lora
    from tasks.core.training.attempt import run_attempt
    from tasks.core.training.request import TrainingRequest

    packs = batching == "pack"
    micro = 1 if packs else job.micro_batch_size
    out = Path(job.adapter).parent / f"ours-{batching}"
    out.mkdir(parents=True)
    settings = Finetune.model_validate(
        {
            "language": None,
            "batching": batching,
            "epochs": job.epochs,
            "micro_batch_size": micro,
            "gradient_accumulation_steps": (
                job.packs_a_step if packs else job.conversations_a_step // micro
            ),
            "learning_rate": job.learning_rate,
            "warmup_ratio": 0.0,
            "precision": "bfloat16" if job.bf16 else "float32",
            "max_length_tokens": job.max_length_tokens,
            "gradient_checkpointing": False,
            "zero_stage": 0,
            "device": "cpu",
            "seed": job.seed,
            "lora": Lora(
                r=job.lora_r,
                alpha=job.lora_alpha,
                dropout=0.0,
                target_modules=tuple(job.lora_targets),
            ),
        }
    )
    print(f"@first {_first_step_tokens(job, settings)}", flush=True)
    request = TrainingRequest(
        Path(job.model), settings, Path(job.data), job.template, out, on_line=_say_ended_step
    )
    made = run_attempt(request)
    made.adapter.rename(job.adapter)
    return made.trained_tokens


def _first_step_tokens(job: Job, settings: Any) -> int:
    """Return the tokens of the first step: the longest rows come first, and it is not timed."""
    from tasks.core.conversation.examples.file import ExampleFile
    from tasks.core.planning.batch import global_batch_size
    from tasks.core.training.batching.choice import batching_of

    batching = batching_of(settings, ExampleFile(Path(job.examples)), 0)
    first = itertools.islice(batching.sampler, global_batch_size(settings))
    return sum(len(batching.rows[index]["input_ids"]) for index in first)


def fastchat(job: Job) -> int:
    """Train as FastChat's train_lora.py does; return the tokens learned from."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    examples = _examples(job)
    length = job.max_length_tokens

    def padded(example: dict[str, list[int]]) -> dict[str, Any]:
        missing = length - len(example["input_ids"])
        return {
            "input_ids": torch.tensor(example["input_ids"] + [0] * missing),
            "labels": torch.tensor(example["labels"] + [-100] * missing),
            "attention_mask": torch.tensor([1] * len(example["input_ids"]) + [0] * missing),
        }

    model = AutoModelForCausalLM.from_pretrained(
        job.model, dtype=torch.bfloat16 if job.bf16 else torch.float32, trust_remote_code=True
    )
    model.config.use_cache = False
    from peft import get_peft_model

    trainer = Trainer(
        model=get_peft_model(model, _lora(job)),
        args=TrainingArguments(
            gradient_accumulation_steps=job.conversations_a_step // job.micro_batch_size,
            per_device_train_batch_size=job.micro_batch_size,
            include_num_input_tokens_seen="non_padding",
            **_common(job),
        ),
        train_dataset=[padded(example) for example in examples],
        callbacks=[_callback()],
    )
    trainer.train()
    trainer.model.save_pretrained(job.adapter)
    return int(trainer.state.num_input_tokens_seen)


def trl(job: Job) -> int:
    """Train with TRL's SFTTrainer and packing; return the tokens learned from."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    model = AutoModelForCausalLM.from_pretrained(
        job.model, dtype=torch.bfloat16 if job.bf16 else torch.float32, trust_remote_code=True
    )
    examples = _examples(job)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            packing=True,
            max_length=job.max_length_tokens,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=job.packs_a_step,
            gradient_checkpointing=False,
            **_common(job),
        ),
        processing_class=AutoTokenizer.from_pretrained(job.model),
        train_dataset=Dataset.from_list(examples),
        peft_config=_lora(job),
        callbacks=[_callback()],
    )
    trainer.train()
    trainer.save_model(job.adapter)
    return round(job.epochs * sum(len(example["input_ids"]) for example in examples))


def _common(job: Job) -> dict[str, Any]:
    """Return the arguments that the peers share: those of our own run."""
    return {
        "output_dir": f"{job.adapter}-work",
        "num_train_epochs": job.epochs,
        "learning_rate": job.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "bf16": job.bf16,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": job.seed,
        "use_cpu": True,
    }


def _lora(job: Job) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=job.lora_r,
        lora_alpha=job.lora_alpha,
        lora_dropout=0.0,
        target_modules=job.lora_targets,
    )


def _examples(job: Job) -> list[dict[str, list[int]]]:
    """Return the tokens and labels of every conversation, as our own preparation wrote them."""
    from safetensors import safe_open

    with safe_open(job.examples, framework="pt") as file:
        tensors = {name: file.get_tensor(name).tolist() for name in file.keys()}  # noqa: SIM118
    bounds = tensors["starts"]
    return [
        {name: tensors[name][start:stop] for name in ("input_ids", "labels")}
        for start, stop in itertools.pairwise(bounds)
    ]


def _callback() -> Any:
    from transformers import TrainerCallback

    class Steps(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            _say_step(state.global_step)

    return Steps()


def _say_ended_step(line: str) -> None:
    """Say a step that a line of ours tells the end of; a micro batch's line ends none."""
    if ended := re.match(r"step (\d+)/", line):
        _say_step(int(ended[1]))


def _say_step(step: int) -> None:
    print(f"@step {step} {time.monotonic():.3f}", flush=True)


def main() -> None:
    """Run the contender of the command line."""
    kind, job_file = sys.argv[1:]
    job = Job(**json.loads(Path(job_file).read_bytes()))
    name, _, batching = kind.partition("-")
    tokens = (
        ours(job, batching) if name == "ours" else {"fastchat": fastchat, "trl": trl}[kind](job)
    )
    print(f"@tokens {tokens}", flush=True)


if __name__ == "__main__":
    main()
