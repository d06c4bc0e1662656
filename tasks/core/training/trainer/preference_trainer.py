"""Training by preference: AdapterTrainer with the loss of pairs against the model without adapter.

The reference is the same model with its adapter switched off, evaluated in each micro batch: no
second copy of the weights, and nothing that a resumed training would have to recompute. TRL's
DPOTrainer is not used: it prepares data and evaluates in its own way, replaces the model's forward
pass, and writes Trainer's checkpoints. The invariant: a step's loss is the mean over its pairs,
however they are divided into micro batches and processes.
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
from peft import PeftModel
from torch import nn

from tasks.core.training.trainer.adapter_trainer import AdapterTrainer
from tasks.core.training.trainer.preference_loss import (
    PairLosses,
    PairSums,
    answer_log_probs,
    pair_losses,
)

Batch = dict[str, torch.Tensor | Any]


class PreferenceTrainer(AdapterTrainer):
    """An AdapterTrainer for pairs, in the layout of `padding.PairCollator`."""

    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, beta: float, **kwargs: Any) -> None:
        """Take AdapterTrainer's arguments, and how strongly to stay close to the reference."""
        self._beta = beta
        super().__init__(*args, **kwargs)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], torch.Tensor]:
        """Return the micro batches of a step, and the number of its pairs over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        pairs = torch.tensor(sum(len(each["input_ids"]) // 2 for each in batches), device=device)
        if self.args.world_size > 1:
            pairs = cast("torch.Tensor", self.accelerator.gather(pairs)).sum()
        return batches, pairs

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Return the mean loss of the pairs, or their part of a step with that many pairs."""
        losses = self._pairs(model, inputs).losses
        if num_items_in_batch is None:
            return losses.mean()
        # DeepSpeed averages over the processes.
        processes: int = self.accelerator.num_processes
        return losses.sum() * processes / num_items_in_batch

    def _pairs(self, model: nn.Module, inputs: Batch) -> PairLosses:
        """Return losses and margins of a micro batch.

        The reference comes first, so that under ZeRO-3 nothing comes between the training forward
        pass and its backward pass.
        """
        adapted = cast("PeftModel", self.model)
        with torch.no_grad(), adapted.disable_adapter():
            reference = self._log_probs(model, inputs)
        return pair_losses(self._log_probs(model, inputs), reference, self._beta)

    def _log_probs(self, model: nn.Module, inputs: Batch) -> torch.Tensor:
        return answer_log_probs(model, inputs, takes_positions=self._learned_only)

    def _validation(self) -> tuple[dict[str, float], int]:
        """Return mean loss, mean margin and share preferred of all validation pairs."""
        sums = PairSums(self.args.device)

        def add(inputs: Batch, counts: bool) -> None:
            found = self._pairs(self.model_wrapped, inputs)
            if counts:
                sums.add(found, inputs["labels"])

        self._over_validation(add)
        return sums.means()
