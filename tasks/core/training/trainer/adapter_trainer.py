"""transformers' Trainer, adapted to LoRA: small checkpoints that are whole, and a finite loss.

Trainer alone would copy all weights of the model to the host for every checkpoint, hide a loss that
is not finite, and remove old checkpoints before the new one is known to be whole.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset, Sampler
from transformers import PrinterCallback, Trainer
from transformers.trainer_utils import SchedulerType

from tasks.core.training.batching.grouping import LengthGroups
from tasks.core.training.checkpoints.directory import has_division
from tasks.core.training.checkpoints.portable import restore_portable, write_portable
from tasks.core.training.model.learned_head import learned_only, takes_positions
from tasks.core.training.model.packed_attention import attends_within, bounds_of
from tasks.core.training.trainer.adapter_writing import trained_parameters, write_adapter
from tasks.core.training.trainer.callbacks import LastStepLogged, OrderOfEpoch, RateOfStep
from tasks.core.training.trainer.pace import ProgressReports
from tasks.core.training.trainer.schedule import rate_at
from tasks.core.training.trainer.validation import LossSum, rows_of_process


class AdapterTrainer(Trainer):
    """A Trainer for a PEFT model that saves nothing but the adapter.

    validation_tokens: the learned tokens of the last validation.
    """

    validation_tokens = 0

    def __init__(
        self,
        *args: Any,
        division: str,
        train_sampler: LengthGroups | None = None,
        **kwargs: Any,
    ) -> None:
        """Take Trainer's arguments, and how the training state is divided between processes.

        train_sampler: the order of the examples; by default Trainer's random one.
        """
        self._division = division
        self._train_sampler = train_sampler
        super().__init__(*args, **kwargs)
        base = cast("PeftModel", self.model).get_base_model()
        self._learned_only, self._attends_within = takes_positions(base), attends_within(base)
        self._rate = RateOfStep()
        self.add_callback(self._rate)
        if train_sampler is not None:
            self.add_callback(OrderOfEpoch(train_sampler))
        self.add_callback(LastStepLogged())
        self._seen = ProgressReports(lambda: self.current_gradient_accumulation_steps)
        self.add_callback(self._seen)
        self.remove_callback(PrinterCallback)  # ProgressReports reports the same, in one format

    def create_accelerator_and_postprocess(self) -> None:
        """Make the accelerator, with DeepSpeed's number of micro batches per step.

        Trainer always sets 1, since it divides the loss itself. Under DeepSpeed, accelerate then
        takes the number of the configuration when it prepares the engine, with a warning.
        """
        super().create_accelerator_and_postprocess()
        if self.is_deepspeed_enabled:
            self.accelerator.gradient_accumulation_steps = self.args.gradient_accumulation_steps

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Make the schedule; DeepSpeed calls this on a copy of the trainer."""
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
        """Return the model's own loss, computing logits only for learned tokens."""
        loss: torch.Tensor | tuple[torch.Tensor, Any] = super().compute_loss(
            model, self._model_inputs(inputs), return_outputs, num_items_in_batch
        )
        return loss

    def _model_inputs(self, inputs: dict[str, torch.Tensor | Any]) -> dict[str, torch.Tensor | Any]:
        """Return a batch in the form that the model's forward pass takes."""
        batch = learned_only(inputs) if self._learned_only else inputs
        return batch | bounds_of(batch["position_ids"]) if self._attends_within else batch

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Validate, log the figures and return them, the mean loss among them.

        Trainer's own loss is the mean of its batches' means, which depends on the batch size, and
        its data loader would advance the generator that the next step's dropout draws from.
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
        """Return the mean loss of the learned tokens, and their number."""
        sums = LossSum(self.args.device)

        def add(inputs: dict[str, Any], counts: bool) -> None:
            loss = cast("torch.Tensor", self.compute_loss(self.model_wrapped, inputs))
            if counts:
                sums.add(loss, inputs["labels"])

        self._over_validation(add)
        loss, tokens = sums.mean()
        return {"loss": loss}, tokens

    def _over_validation(self, add: Callable[[dict[str, Any], bool], None]) -> None:
        """Call add(batch, counts) for each of this process's validation batches."""
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
        """Make engine and optimizer, and restore the checkpoint's state, however it was divided."""
        checkpoint = None if resume_from_checkpoint is None else Path(resume_from_checkpoint)
        prepare: Callable[..., tuple[Any, Any]] = super()._prepare_for_training
        if checkpoint is None or has_division(checkpoint, self._division):
            return prepare(max_steps, train_dataloader, resume_from_checkpoint)
        prepared = prepare(max_steps, train_dataloader, None)
        rows: Any = self.train_dataset
        batch = self._model_inputs(self._prepare_inputs(self.data_collator([rows[0]])))
        restore_portable(self.model_wrapped, cast("PeftModel", self.model), checkpoint, batch)
        return prepared

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a step with the rate that it was taken with.

        When Trainer reads the rate, DeepSpeed has already advanced the schedule to the next step's.
        """
        rate = {"learning_rate": self._rate.value} if "loss" in logs else {}
        super().log(logs | rate, start_time)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the adapter into output_dir. Every process must call this: ZeRO-3 gathers."""
        state_dict = trained_parameters(self.model)
        if self.args.should_save:
            write_adapter(self.model, state_dict, Path(output_dir or str(self.args.output_dir)))
