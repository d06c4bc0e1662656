"""Norm, rotation and loss of a LLaMA in fused form: liger-kernel's on a GPU, ours on a CPU.

liger-kernel is used if it is installed. This code follows its documentation and was tested on a CPU
as far as possible, never on a GPU. Its SwiGLU is never used: it computes SiLU whatever a layer's
activation is, which would undo the edit. The invariant: after patching, every layer computes what
it computed before.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from tasks.core.errors import EditLost
from tasks.core.recipe import Finetune
from tasks.core.training.model.cpu_attention import attend_causally
from tasks.core.training.model.cpu_kernels import fuse_norm_and_rotation, loss_in_chunks
from tasks.core.training.model.learned_head import takes_positions

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Any], torch.Tensor]
"""A loss from states (tokens, width), the output layer's weight, the next tokens, and a divisor."""


def fuse_kernels(model: PreTrainedModel, settings: Finetune) -> None:
    """Use fused kernels in a LLaMA; on a GPU only if liger-kernel is installed.

    Raises EditLost if a layer's activation differs afterwards.
    """
    if not isinstance(model, LlamaForCausalLM):
        return
    before = layer_computation(model)
    loss: Loss = liger_loss
    if settings.device == "cpu":
        fuse_norm_and_rotation(model)
        loss = loss_in_chunks
        if settings.precision != "float32" and settings.batching != "pack":
            attend_causally(model)
    elif importlib.util.find_spec("liger_kernel") is not None:
        _take_liger(model)
    else:
        return
    # Under ZeRO-3 the output layer's weight is present only while that layer itself is called.
    if settings.zero_stage != 3 and takes_positions(model):
        fuse_loss(model, loss)
    require_unchanged(model, before)


def _take_liger(model: LlamaForCausalLM) -> None:
    from liger_kernel.transformers import apply_liger_kernel_to_llama

    apply_liger_kernel_to_llama(
        rope=True,
        rms_norm=True,
        swiglu=False,
        cross_entropy=False,
        fused_linear_cross_entropy=False,  # liger's takes no mask of learned tokens; ours is below
        model=model,
    )


def liger_loss(
    hidden: torch.Tensor, weight: torch.Tensor, following: torch.Tensor, items: Any
) -> torch.Tensor:
    """Return the loss (`Loss`) by liger's kernel."""
    from liger_kernel.transformers.model.loss_utils import LigerForCausalLMLoss

    loss: torch.Tensor = LigerForCausalLMLoss(
        hidden_states=hidden,
        lm_head_weight=weight,
        labels=None,
        hidden_size=hidden.shape[-1],
        num_items_in_batch=items,
        shift_labels=following,
    )
    return loss


def fuse_loss(model: LlamaForCausalLM, loss_of: Loss) -> None:
    """Compute the model's training loss without materializing the logits.

    Only for batches that name their learned tokens (`learned_head.learned_only`) and have some.
    """
    plain = model.forward

    def forward(self: LlamaForCausalLM, **inputs: Any) -> CausalLMOutputWithPast:
        following = inputs.get("shift_labels")
        if not self.training or following is None or not len(following):
            whole: CausalLMOutputWithPast = plain(**inputs)
            return whole
        given = dict(inputs)
        learned, items = given.pop("logits_to_keep"), given.pop("num_items_in_batch", None)
        del given["labels"], given["shift_labels"]
        hidden: torch.Tensor = self.model(**given).last_hidden_state[learned]
        return CausalLMOutputWithPast(loss=loss_of(hidden, self.lm_head.weight, following, items))

    model.forward = MethodType(forward, model)


@dataclass(frozen=True)
class LayerComputation:
    """What the layers' MLPs compute: their code, activations, and whether the edit is alive."""

    code: tuple[object, ...]
    activations: tuple[str, ...]
    is_alive: bool


def layer_computation(model: PreTrainedModel) -> LayerComputation:
    """Return what a model's layers compute; without an edit, only the code is known.

    The report of an edited model covers the activation alone; a SwiGLU kernel would replace the MLP
    around it.
    """
    layers: Any = model.base_model.layers
    code = tuple((each.mlp.forward.__func__, type(each.mlp.act_fn)) for each in layers)
    report: Any = getattr(model.base_model, "kawan_usaha_report", None)
    edit: dict[str, Any] = {} if report is None else report()
    return LayerComputation(code, tuple(edit.get("activations", ())), bool(edit.get("alive", True)))


def require_unchanged(model: PreTrainedModel, before: LayerComputation) -> None:
    """Raise EditLost unless every layer computes what it did before, and the edit is alive."""
    after = layer_computation(model)
    if after == before and after.is_alive:
        return
    raise EditLost(
        "A fused kernel changes what a layer computes.",
        where=type(model).__name__,
        expected=f"activations {before.activations}, by the model's own code",
        found=f"activations {after.activations}, alive: {after.is_alive}",
        next_step="`pip uninstall liger-kernel`, or the version that docs/planning.md names.",
    )
