"""The training program, started once per device: a job file in, adapter and outcome out.

Knows neither Prefect nor the store. The invariant: the outcome is written last, after the adapter
has reached the disk; any earlier failure leaves a failure file and an error code. A training that
was asked to end leaves a checkpoint, and a failure file with that reason.

    python -m tasks.core.training.entry JOB
"""

import logging
import math
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import deepspeed
import torch.distributed as dist
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, TrainingArguments, set_seed

from tasks.core.conversation.examples.file import rows_of
from tasks.core.recipe import Finetune
from tasks.core.system.errors import system_error
from tasks.core.training.batching.choice import batching_of
from tasks.core.training.deepspeed_config import ADAM_BETAS, ADAM_EPSILON, deepspeed_config
from tasks.core.training.failures import Failure, StopReason, reason_of
from tasks.core.training.job import (
    LoggedStep,
    TrainingJob,
    TrainingOutcome,
    ValidatedStep,
    division_of,
)
from tasks.core.training.model.base_model import read_base_model
from tasks.core.training.trainer.adapter_trainer import AdapterTrainer
from tasks.core.training.trainer.callbacks import WholeCheckpoints
from tasks.core.training.trainer.preference_trainer import PreferenceTrainer
from tasks.core.training.trainer.timed import TimedCheckpoints

_VALIDATION = "eval_"


def main(*words: str) -> int:
    """Run the job whose file is the last word, after those of a launcher; return the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    job = TrainingJob.model_validate_json(Path(words[-1]).read_bytes())
    try:
        _train(job)
    except Exception as error:
        _fail(job, reason_of(error), _in_words(error))
        raise
    # Without these two, about one in twenty ZeRO-3 runs ended with code 250 after saving.
    dist.barrier()
    dist.destroy_process_group()
    return 0


def _train(job: TrainingJob) -> None:
    _leave_uncompiled(job.settings)
    # The arguments come before the model: under ZeRO-3 they make `from_pretrained` divide the
    # weights between the devices while it reads them.
    arguments = _arguments(job)
    set_seed(job.settings.seed)
    method = job.settings.method
    batching = batching_of(
        job.settings,
        rows_of(job.examples, method),
        job.pad_token_id,
        in_groups_of=job.group_size,
    )
    validation = job.validation_examples and batching_of(
        job.settings, rows_of(job.validation_examples, method), job.pad_token_id
    )
    trainer = _trainer_of(job.settings)(
        model=_with_adapter(
            read_base_model(job.model, job.settings, arguments.device), job.settings
        ),
        args=arguments,
        train_dataset=batching.rows,
        eval_dataset=validation.rows if validation else None,
        data_collator=batching.collate,
        train_sampler=batching.sampler,
        division=division_of(job.settings),
        callbacks=[
            TimedCheckpoints(job.settings.save_interval_s),
            WholeCheckpoints(job.settings.save_total_limit),
        ],
    )
    trainer.train(resume_from_checkpoint=str(job.resume_from) if job.resume_from else None)
    if trainer.state.global_step < job.total_steps:
        said = f"stopped after step {trainer.state.global_step} of {job.total_steps}"
        _fail(job, StopReason.STOPPED, said)
        return
    trainer.save_model(str(job.adapter))
    if trainer.is_world_process_zero():
        _outcome(trainer).write(job.outcome)


def _trainer_of(settings: Finetune) -> Callable[..., AdapterTrainer]:
    """Return the trainer class of the method."""
    if settings.method == "dpo":
        return partial(PreferenceTrainer, beta=settings.beta)
    return AdapterTrainer


def _fail(job: TrainingJob, reason: StopReason, error: str) -> None:
    """Write the failure file of this process."""
    rank = int(os.environ.get("RANK", "0"))
    Failure(rank=rank, reason=reason, error=error).write_beside(job.outcome)


def _in_words(error: Exception) -> str:
    """Return the error, with an explanation if the system refused something."""
    text = "".join(traceback.format_exception_only(error)).strip()
    known = system_error(error)
    return f"{text}\n{known}" if known else text


def _leave_uncompiled(settings: Finetune) -> None:
    """Let processes on a CPU communicate through gloo, instead of compiling for a minute.

    DeepSpeed would build its shared-memory collectives on the first run. It keeps this table in the
    module so that edits to it persist (deepspeed/ops/__init__.py).
    """
    if settings.device == "cpu":
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _outcome(trainer: AdapterTrainer) -> TrainingOutcome:
    history = trainer.state.log_history
    logged = [entry for entry in history if "loss" in entry]
    return TrainingOutcome(
        steps=tuple(
            LoggedStep(step=int(e["step"]), loss=e["loss"], learning_rate=e["learning_rate"])
            for e in logged
        ),
        tokens=int(trainer.state.num_input_tokens_seen),
        validation=tuple(_validated(entry) for entry in history if f"{_VALIDATION}loss" in entry),
        validation_tokens=trainer.validation_tokens,
    )


def _validated(entry: Mapping[str, float]) -> ValidatedStep:
    found = {name: entry.get(f"{_VALIDATION}{name}") for name in ("loss", "margin", "preferred")}
    finite = {name: x if x is not None and math.isfinite(x) else None for name, x in found.items()}
    return ValidatedStep(step=int(entry["step"]), **finite)


def _arguments(job: TrainingJob) -> TrainingArguments:
    settings = job.settings
    return TrainingArguments(
        output_dir=str(job.checkpoints),
        max_steps=job.total_steps,
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler,
        warmup_steps=settings.warmup_ratio,  # below 1 it is a share of all steps
        weight_decay=settings.weight_decay,
        adam_beta1=ADAM_BETAS[0],
        adam_beta2=ADAM_BETAS[1],
        adam_epsilon=ADAM_EPSILON,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.precision == "bfloat16",
        fp16=settings.precision == "float16",
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        save_steps=settings.save_steps,
        logging_steps=settings.logging_steps,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if job.validation_interval else "no",
        eval_steps=job.validation_interval,
        # Packed rows have no attention mask to count by, and hardly any padding.
        include_num_input_tokens_seen="all" if settings.batching == "pack" else "non_padding",
        remove_unused_columns=False,
        report_to=list(settings.report_to) or "none",
        disable_tqdm=True,
        seed=settings.seed,
        data_seed=settings.seed,
        # Without this, two processes on a CPU become two trainings that write the same output.
        use_cpu=settings.device == "cpu",
        deepspeed=deepspeed_config(settings),
    )


def _with_adapter(model: PreTrainedModel, settings: Finetune) -> PeftModel:
    lora = settings.lora
    targets = lora.target_modules
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        target_modules=targets if isinstance(targets, str) else list(targets),
    )
    # DeepSpeed casts the module to the training's type anyway; fp32 in between would be wasted.
    return get_peft_model(model, config, autocast_adapter_dtype=False)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
