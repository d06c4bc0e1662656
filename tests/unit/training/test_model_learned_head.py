"""The output layer for learned tokens alone, against the same model with all of its logits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaForCausalLM, TrainingArguments

from tasks.core.architecture.edit import edit_model
from tasks.core.conversation.examples.labels import IGNORED
from tasks.core.recipe import Edit
from tasks.core.training.batching.packing import PackedCollator, joined
from tasks.core.training.batching.padding import Collator
from tasks.core.training.model.learned_head import learned_only, takes_positions
from tasks.core.training.trainer.adapter_trainer import AdapterTrainer
from tests.models import tiny_llama

Tensors = dict[str, torch.Tensor]


def examples(seed: int, lengths: list[int]) -> list[Tensors]:
    random = torch.Generator().manual_seed(seed)
    made = []
    for length in lengths:
        ids = torch.randint(3, 320, (length,), generator=random)
        learned = torch.rand(length, generator=random) < 0.4
        made.append({"input_ids": ids, "labels": torch.where(learned, ids, IGNORED)})
    return made


def packed(rows: list[Tensors]) -> Tensors:
    return PackedCollator(0)([joined(rows[:2]), joined(rows[2:])])


def learned_tokens(batch: Tensors) -> torch.Tensor:
    return (batch["labels"][:, 1:] != IGNORED).sum()


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plain = tiny_llama(tmp_path_factory.mktemp("model") / "plain", dtype="float32")
    out = plain.parent / "edited"
    out.mkdir()
    edit_model(plain, Edit(), out)
    return out


@pytest.fixture
def model(edited: Path) -> PeftModel:
    """The edited class with an adapter that is no longer zero, as in the middle of a training."""
    base = AutoModelForCausalLM.from_pretrained(edited, dtype=torch.float32, trust_remote_code=True)
    base.config.use_cache = False
    torch.manual_seed(0)
    wrapped = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return wrapped


def backward(
    model: PeftModel, batches: list[Tensors], items: torch.Tensor
) -> tuple[float, Tensors]:
    """Return the loss and the gradients of a step of these micro batches."""
    model.zero_grad()
    losses = [model(**batch, num_items_in_batch=items).loss for batch in batches]
    for loss in losses:
        loss.backward()
    named = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    return sum(loss.item() for loss in losses), {
        n: g.clone() for n, g in named.items() if g is not None
    }


@pytest.mark.parametrize("collate", [Collator(0), packed], ids=["padded", "packed"])
def test_an_accumulated_step_has_the_loss_and_gradients_of_all_logits(
    model: PeftModel, collate: Any
) -> None:
    batches = [collate(examples(1, [17, 5, 40])), collate(examples(2, [9, 12, 3]))]
    items = sum(learned_tokens(batch) for batch in batches)
    plain_loss, plain = backward(model, batches, torch.as_tensor(items))
    loss, gradients = backward(model, [learned_only(b) for b in batches], torch.as_tensor(items))
    assert loss == pytest.approx(plain_loss, rel=1e-6)
    assert gradients.keys() == plain.keys()
    for name, gradient in gradients.items():
        # Sums in another order: rows that weigh nothing are no longer among them.
        torch.testing.assert_close(gradient, plain[name], rtol=1e-4, atol=1e-7)


def test_the_output_layer_sees_no_token_that_is_not_learned(model: PeftModel) -> None:
    batch = Collator(0)(examples(3, [20, 11]))
    seen: list[torch.Size] = []
    head: Any = model.get_base_model().lm_head
    head.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape))
    model(**learned_only(batch))
    assert seen == [(learned_tokens(batch), 320)]


def test_a_micro_batch_without_anything_learned_adds_nothing(model: PeftModel) -> None:
    batch = Collator(0)(examples(4, [8]))
    batch["labels"].fill_(IGNORED)
    loss, gradients = backward(model, [learned_only(batch)], torch.tensor(7))
    assert loss == 0.0
    assert gradients
    assert not any(gradient.any() for gradient in gradients.values())


def test_the_trainer_computes_the_model_s_own_loss_of_learned_tokens(
    model: PeftModel, tmp_path: Path
) -> None:
    trainer = AdapterTrainer(
        model=model,
        args=TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none"),
        division="",
    )
    batch = Collator(0)(examples(5, [20, 11]))
    items = torch.tensor(30)
    loss, outputs = trainer.compute_loss(model, batch, True, items)
    assert loss.item() == pytest.approx(
        model(**batch, num_items_in_batch=items).loss.item(), rel=1e-6
    )
    assert outputs.logits.shape == (learned_tokens(batch), 320)


def test_a_forward_pass_that_is_not_transformers_own_gets_all_positions(edited: Path) -> None:
    class Foreign(LlamaForCausalLM):
        def forward(self, input_ids: Any = None, logits_to_keep: int = 0, **_: Any) -> None:  # type: ignore[override]
            raise NotImplementedError

    own = AutoModelForCausalLM.from_pretrained(edited, trust_remote_code=True)
    assert takes_positions(own)
    assert not takes_positions(Foreign(own.config))
