"""Training by preference: AdapterTrainer with the loss of pairs against the model without adapter.

The reference is the same model with its adapter switched off, asked at each micro batch: no second
copy of the weights, nothing that a resumed training would have to find again. TRL's DPOTrainer is
not used: it prepares the data and evaluates in ways of its own, gives the model another forward
pass, and writes Trainer's checkpoints. The invariant: a step's loss is the mean over its pairs,
however they are divided into micro batches and processes.
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
from peft import PeftModel
from torch import nn

from tasks.core.training.preference_loss import (
    PairLosses,
    PairSums,
    answer_log_probs,
    pair_losses,
)
from tasks.core.training.trainer import AdapterTrainer

Batch = dict[str, torch.Tensor | Any]


class PreferenceTrainer(AdapterTrainer):
    """An AdapterTrainer whose rows are pairs, as `batches.PairCollator` lays them."""

    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, beta: float, **kwargs: Any) -> None:
        """Take what AdapterTrainer takes, and how closely to keep to the reference."""
        self._beta = beta
        super().__init__(*args, **kwargs)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], torch.Tensor]:
        """Return the micro batches of a step, and how many pairs all processes have in it."""
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
        """Return the loss of the pairs: their mean, or their part of a step of that many pairs."""
        losses = self._pairs(model, inputs).losses
        if num_items_in_batch is None:
            return losses.mean()
        # DeepSpeed takes the mean of what the processes give.
        processes: int = self.accelerator.num_processes
        return losses.sum() * processes / num_items_in_batch

    def _pairs(self, model: nn.Module, inputs: Batch) -> PairLosses:
        """Return what the pairs of a micro batch come to.

        The reference comes first, so that under ZeRO-3 nothing stands between the forward pass that
        is learned from and its backward pass.
        """
        adapted = cast("PeftModel", self.model)
        with torch.no_grad(), adapted.disable_adapter():
            reference = self._log_probs(model, inputs)
        return pair_losses(self._log_probs(model, inputs), reference, self._beta)

    def _log_probs(self, model: nn.Module, inputs: Batch) -> torch.Tensor:
        return answer_log_probs(model, inputs, takes_positions=self._learned_only)

    def _validation(self) -> tuple[dict[str, float], int]:
        """Return the mean loss and margin of all validation pairs, and the share preferred."""
        sums = PairSums(self.args.device)

        def add(inputs: Batch, counts: bool) -> None:
            found = self._pairs(self.model_wrapped, inputs)
            if counts:
                sums.add(found, inputs["labels"])

        self._over_validation(add)
        return sums.means()
