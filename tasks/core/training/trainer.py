"""transformers' Trainer, bent to what an adapter needs: small checkpoints that are whole.

Trainer's own way would copy all weights of the model to the host at every checkpoint, hide a loss
that is not finite, and remove old checkpoints before the new one is known to be whole.
"""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset, Sampler
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import SchedulerType

from tasks.core.files.durable import fsync_tree, make_directory
from tasks.core.training.checkpoints import fits, mark_whole, prune
from tasks.core.training.grouping import LengthGroups
from tasks.core.training.learned_head import learned_only, takes_positions
from tasks.core.training.pace import StepsSeen
from tasks.core.training.packed_attention import attends_within, bounds_of
from tasks.core.training.portable import restore_portable, write_portable
from tasks.core.training.schedule import rate_at
from tasks.core.training.validation import LossSum, rows_of_process

_log = logging.getLogger(__name__)


class _RateOfStep(TrainerCallback):
    """Notes the learning rate that a step begins with."""

    value = 0.0

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: torch.optim.Optimizer | None = None,
        **_: Any,
    ) -> None:
        if optimizer is not None:
            self.value = float(optimizer.param_groups[0]["lr"])


class _LastStepLogged(TrainerCallback):
    """Logs the last step, too, so that a training never ends without a loss."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step >= state.max_steps:
            control.should_log = True


class OrderOfEpoch(TrainerCallback):
    """Tells the order of examples which epoch begins, in a resumed one too.

    The data loader tells it as well, but not where accelerate divides the batches between processes
    and skips those of before a checkpoint: the rest of that epoch then came in the first one's
    order, so that some conversations were learned twice and others not at all.
    """

    def __init__(self, order: LengthGroups) -> None:
        self._order = order

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """state.epoch counts the epochs that were taken, with the part of one at a checkpoint."""
        self._order.set_epoch(int(state.epoch or 0))


class AdapterTrainer(Trainer):
    """A Trainer whose model is a PEFT model, and which saves nothing but the adapter.

    `validation_tokens` are the learned ones of the last validation.
    """

    validation_tokens = 0

    def __init__(
        self,
        *args: Any,
        division: str,
        train_sampler: LengthGroups | None = None,
        **kwargs: Any,
    ) -> None:
        """Take what Trainer takes, and how the states are divided.

        `train_sampler` is the order of the examples if it shall not be random.
        """
        self._division = division
        self._train_sampler = train_sampler
        super().__init__(*args, **kwargs)
        base = cast("PeftModel", self.model).get_base_model()
        self._learned_only, self._attends_within = takes_positions(base), attends_within(base)
        self._rate = _RateOfStep()
        self.add_callback(self._rate)
        if train_sampler is not None:
            self.add_callback(OrderOfEpoch(train_sampler))
        self.add_callback(_LastStepLogged())
        self._seen = StepsSeen(lambda: self.current_gradient_accumulation_steps)
        self.add_callback(self._seen)
        self.remove_callback(PrinterCallback)  # StepsSeen says the same in one form for all

    def create_accelerator_and_postprocess(self) -> None:
        """Make the accelerator, which counts the micro batches of a step as DeepSpeed does.

        Trainer always says 1, since it divides the loss itself. Under DeepSpeed, accelerate takes
        the number of its configuration all the same when it prepares the engine, with a warning.
        """
        super().create_accelerator_and_postprocess()
        if self.is_deepspeed_enabled:
            self.accelerator.gradient_accumulation_steps = self.args.gradient_accumulation_steps

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Make the schedule, for DeepSpeed on a copy of this trainer."""
        if self.lr_scheduler is None:
            rate = partial(
                rate_at,
                kind=cast("Any", SchedulerType(self.args.lr_scheduler_type).value),
                warmup_steps=self.args.get_warmup_steps(num_training_steps),
                total_steps=num_training_steps,
            )
            chosen = cast("torch.optim.Optimizer", optimizer or self.optimizer)
            self.lr_scheduler = LambdaLR(chosen, rate)
        return self.lr_scheduler

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int] | None:
        """Return the given order, or Trainer's own."""
        own = self._train_sampler
        return own if own is not None else super()._get_train_sampler(train_dataset)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Return the model's own loss, with logits of learned tokens alone."""
        loss: torch.Tensor | tuple[torch.Tensor, Any] = super().compute_loss(
            model, self._told(inputs), return_outputs, num_items_in_batch
        )
        return loss

    def _told(self, inputs: dict[str, torch.Tensor | Any]) -> dict[str, torch.Tensor | Any]:
        """Return a batch as the model's forward pass takes it."""
        batch = learned_only(inputs) if self._learned_only else inputs
        return batch | bounds_of(batch["position_ids"]) if self._attends_within else batch

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return the figures of all validation rows, the mean loss among them, and log them.

        Trainer's own is the mean of its batches' means, which depends on their size, and its data
        loader would draw from the generator that the dropout of the next step draws from.
        """
        started = time.monotonic()
        found, self.validation_tokens = self._validation()
        wall_s = time.monotonic() - started
        self._seen.validation(self.state, found, self.validation_tokens, wall_s)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _validation(self) -> tuple[dict[str, float], int]:
        """Return the mean loss of the learned tokens, and how many they are."""
        sums = LossSum(self.args.device)

        def add(inputs: dict[str, Any], counts: bool) -> None:
            loss = cast("torch.Tensor", self.compute_loss(self.model_wrapped, inputs))
            if counts:
                sums.add(loss, inputs["labels"])

        self._over_validation(add)
        loss, tokens = sums.mean()
        return {"loss": loss}, tokens

    def _over_validation(self, add: Callable[[dict[str, Any], bool], None]) -> None:
        """Call add(batch, whether it counts) for each of this process's validation batches."""
        rows: Any = self.eval_dataset
        batches = list(
            rows_of_process(
                len(rows),
                self.args.per_device_train_batch_size,
                self.args.process_index,
                self.args.world_size,
            )
        )
        model = self.model_wrapped
        model.eval()
        for number, (chosen, counts) in enumerate(batches, start=1):
            inputs = self._prepare_inputs(self.data_collator([rows[i] for i in chosen]))
            with torch.no_grad(), self.compute_loss_context_manager():
                add(inputs, counts)
            self._seen.validation_batch(self.state, number, len(batches))
        model.train()

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        write_portable(
            self.model_wrapped,
            cast("PeftModel", self.model),
            self._division,
            Path(output_dir),
            writes=bool(self.args.should_save),
        )

    def _prepare_for_training(
        self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None
    ) -> tuple[Any, Any]:
        """Make engine and optimizer, with the checkpoint's state whichever way it was divided."""
        checkpoint = None if resume_from_checkpoint is None else Path(resume_from_checkpoint)
        prepare: Callable[..., tuple[Any, Any]] = super()._prepare_for_training
        if checkpoint is None or fits(checkpoint, self._division):
            return prepare(max_steps, train_dataloader, resume_from_checkpoint)
        prepared = prepare(max_steps, train_dataloader, None)
        rows: Any = self.train_dataset
        batch = self._told(self._prepare_inputs(self.data_collator([rows[0]])))
        restore_portable(self.model_wrapped, cast("PeftModel", self.model), checkpoint, batch)
        return prepared

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a step with the rate that it was taken with.

        DeepSpeed has moved the schedule on when Trainer asks for it: that is the next step's rate.
        """
        rate = {"learning_rate": self._rate.value} if "loss" in logs else {}
        super().log(logs | rate, start_time)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the adapter into output_dir. Every process must call this: ZeRO-3 gathers."""
        state_dict = _trained_parameters(self.model)
        if self.args.should_save:
            _write_adapter(self.model, state_dict, Path(output_dir or str(self.args.output_dir)))


class WholeCheckpoints(TrainerCallback):
    """Marks each checkpoint whole when all processes have written it, and only then removes old
    ones.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Skip the checkpoint after the last step: the adapter itself is written next."""
        if state.global_step >= state.max_steps:
            control.should_save = False

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Called by every process when its own part is written."""
        if dist.is_initialized():
            dist.barrier()
        if state.is_world_process_zero:
            directory = Path(str(args.output_dir))
            mark_whole(directory / f"checkpoint-{state.global_step}")
            prune(directory, self._keep)


def _trained_parameters(model: PeftModel) -> dict[str, torch.Tensor]:
    """Return copies, on the host, of the parameters that are trained, whole on each process."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not any(hasattr(parameter, "ds_id") for parameter in named.values()):
        return _on_host(named)
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(named.values())):
        return _on_host(named)


def _on_host(named: Mapping[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().cpu().clone() for name, parameter in named.items()}


def _write_adapter(
    model: PeftModel, state_dict: Mapping[str, torch.Tensor], directory: Path
) -> None:
    make_directory(directory)
    tensors = get_peft_model_state_dict(
        model, state_dict=dict(state_dict), save_embedding_layers=False
    )
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        directory / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    config = model.peft_config[model.active_adapter]
    # The base is whatever model this artifact was made from, wherever it lies: a path would only
    # be right on this machine.
    config.base_model_name_or_path, config.inference_mode = None, True
    if isinstance(config.target_modules, set):  # whose order is another one in each process
        config.target_modules = sorted(config.target_modules)
    config.save_pretrained(directory)
    fsync_tree(directory)
