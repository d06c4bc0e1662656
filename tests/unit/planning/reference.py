"""What a real model has alive while it takes one step: the reference for the activation formulas.

Watches every tensor that torch makes, by its storage, from its making to its freeing. Memory that
a kernel takes for itself inside one operation is not seen.
"""

import weakref
from dataclasses import dataclass

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.core.planning.batch import sequences_per_record
from tasks.core.planning.shape import ModelShape
from tasks.core.recipe import Finetune
from tasks.core.training.trainer.preference_loss import answer_log_probs, pair_losses


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of new storages that are alive, and the most there were at one time."""

    def __init__(self, known: list[torch.Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, torch.Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        size_bytes = storage.nbytes()
        self.now += size_bytes
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size_bytes)

    def _free(self, size_bytes: int) -> None:
        self.now -= size_bytes


@dataclass(frozen=True)
class Step:
    """Bytes beside the weights: kept after the forward pass, and at the step's peak."""

    kept: int
    peak: int


def config_of(shape: ModelShape) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.context,
        tie_word_embeddings=shape.tied,
        attention_bias=shape.o_bias,
        mlp_bias=shape.mlp_bias,
    )


def watched_step(shape: ModelShape, finetune: Finetune) -> Step:
    """Take one real LoRA step on the CPU and return what it had alive.

    By preference all tokens of both sides count as answers.
    """
    model, ids = _model_and_ids(shape, finetune)
    with LiveBytes([*model.parameters(), *model.buffers(), ids]) as live:
        loss = _loss(model, ids, finetune)
        kept = live.now
        loss.backward()
    return Step(kept, live.peak)


def watched_forward(shape: ModelShape, finetune: Finetune) -> int:
    """Take the forward pass of such a step alone and return the bytes that it keeps."""
    model, ids = _model_and_ids(shape, finetune)
    with LiveBytes([*model.parameters(), *model.buffers(), ids]) as live:
        loss = _loss(model, ids, finetune)
        kept = live.now
    del loss  # whose graph holds what is kept
    return kept


def _model_and_ids(shape: ModelShape, finetune: Finetune) -> tuple[PeftModel, torch.Tensor]:
    torch.manual_seed(0)
    model = LlamaForCausalLM(config_of(shape)).to(getattr(torch, finetune.precision))
    lora = finetune.lora
    model = get_peft_model(
        model,
        LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(lora.target_modules),
        ),
        autocast_adapter_dtype=False,  # DeepSpeed casts the adapter to the training type too
    ).train()
    if finetune.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    rows = sequences_per_record(finetune) * finetune.micro_batch_size
    ids = torch.ones(rows, finetune.max_length_tokens, dtype=torch.long)
    return model, ids


def _loss(model: PeftModel, ids: torch.Tensor, finetune: Finetune) -> torch.Tensor:
    if finetune.method == "sft":
        return model(input_ids=ids, labels=ids, use_cache=False).loss
    model.config.use_cache = False
    batch = {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad(), model.disable_adapter():
        reference = answer_log_probs(model, batch, takes_positions=True)
    policy = answer_log_probs(model, batch, takes_positions=True)
    return pair_losses(policy, reference, finetune.beta).losses.mean()
