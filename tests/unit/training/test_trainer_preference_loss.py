"""The loss of pairs against TRL's, and a trainer that learns it without a second process."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import logsigmoid
from transformers import LlamaForCausalLM, TrainingArguments, set_seed

from tasks.core.conversation.examples.file import PairFile
from tasks.core.conversation.examples.labels import IGNORED
from tasks.core.conversation.prepared import PreparedExamples, prepare_examples
from tasks.core.recipe import Finetune
from tasks.core.training.batching.choice import batching_of, row_count
from tasks.core.training.batching.padding import PairCollator
from tasks.core.training.trainer.preference_loss import answer_log_probs, pair_losses
from tasks.core.training.trainer.preference_trainer import PreferenceTrainer
from tests.models import tiny_llama, tiny_tokenizer
from tests.unit.training.pairs import write_preferences

BETA = 0.3
SETTINGS = Finetune(
    method="dpo", beta=BETA, validation_share=0.3, language=None, precision="float32", device="cpu"
)
Batch = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("model"), layers=2, dtype="float32")


@pytest.fixture(scope="module")
def prepared(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedExamples:
    out = tmp_path_factory.mktemp("pairs")
    data = write_preferences(out / "pairs.jsonl", 24)
    return prepare_examples(saved, data, SETTINGS, "vicuna_v1.1", out=out)


@pytest.fixture(scope="module")
def batch(prepared: PreparedExamples) -> Batch:
    pairs = PairFile(prepared.examples)
    return PairCollator(2)([pairs[i] for i in range(3)])


def adapted(saved: Path, *, begun: bool = True, dropout: float = 0.0) -> PeftModel:
    """Return the model with an adapter that is one already, or as it is before the first step."""
    torch.manual_seed(1)
    base: Any = LlamaForCausalLM.from_pretrained(saved, dtype=torch.float32)
    base.config.use_cache = False
    config = LoraConfig(
        task_type="CAUSAL_LM",
        target_modules=["q_proj", "v_proj"],
        init_lora_weights=not begun,
        lora_dropout=dropout,
    )
    return get_peft_model(base, config)


def trainer_of(
    model: PeftModel, prepared: PreparedExamples, out: Path, steps: int = 1, micro: int = 2
) -> PreferenceTrainer:
    batching = batching_of(SETTINGS, PairFile(prepared.examples), 2)
    assert prepared.validation is not None
    return PreferenceTrainer(
        beta=BETA,
        model=model,
        args=TrainingArguments(
            output_dir=str(out),
            max_steps=steps,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=4 // micro,
            learning_rate=1e-2,
            save_strategy="no",
            logging_steps=1,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
        ),
        division="one",
        train_dataset=batching.rows,
        eval_dataset=PairFile(prepared.validation),
        data_collator=batching.collate,
        train_sampler=batching.sampler,
    )


def gradients(model: PeftModel) -> dict[str, torch.Tensor]:
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: grad.clone() for name, grad in found.items()}


def test_packed_pairs_are_refused_with_what_to_take() -> None:
    with pytest.raises(ValueError, match="take group"):
        Finetune(method="dpo", batching="pack")


def test_pairs_are_counted_as_one_row_each(prepared: PreparedExamples) -> None:
    pairs = PairFile(prepared.examples)
    assert row_count(SETTINGS, pairs) == len(pairs) == prepared.counts.examples


def test_both_sides_of_a_batch_have_one_length_and_the_chosen_come_first(
    prepared: PreparedExamples, batch: Batch
) -> None:
    assert {len(each) for each in batch.values()} == {6}
    one = PairFile(prepared.examples)[1]
    length = len(one["rejected_input_ids"])
    assert torch.equal(batch["input_ids"][4, :length], one["rejected_input_ids"])
    assert batch["attention_mask"][4].sum() == length


@pytest.mark.parametrize("takes_positions", [True, False])
def test_an_answers_log_probability_is_that_of_its_tokens_one_after_another(
    saved: Path, batch: Batch, takes_positions: bool
) -> None:
    model = adapted(saved)
    found = answer_log_probs(model, batch, takes_positions=takes_positions)
    for row, total in enumerate(found):
        length = int(batch["attention_mask"][row].sum())
        ids, labels = batch["input_ids"][row, :length], batch["labels"][row, :length]
        spoken = model(input_ids=ids[None]).logits[0].log_softmax(-1)
        alone = sum(spoken[at - 1, ids[at]] for at in range(1, length) if labels[at] != IGNORED)
        assert torch.isclose(total, torch.as_tensor(alone), rtol=1e-5)


def test_the_loss_is_that_of_the_paper() -> None:
    policy, reference = torch.tensor([-1.0, -9.0, -5.0, -2.0]), torch.tensor([-2.0, -8, -6, -3])
    found = pair_losses(policy, reference, 0.5)
    assert found.margins.tolist() == [0.5 * (1 - 1), 0.5 * (-1 - 1)]
    assert torch.allclose(found.losses, -logsigmoid(torch.tensor([0.0, -1.0])))


def test_loss_and_gradient_are_those_of_trl(
    saved: Path, prepared: PreparedExamples, batch: Batch, tmp_path: Path
) -> None:
    """TRL computes the log-probabilities in tiles of the output layer: sums in another order."""
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    model = adapted(saved)
    trainer = trainer_of(model, prepared, tmp_path)
    loss = trainer.compute_loss(model, batch)
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    arguments = DPOConfig(
        output_dir=str(tmp_path), beta=BETA, use_cpu=True, report_to="none", bf16=False
    )
    pairs = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    peer = DPOTrainer(
        model=LlamaForCausalLM.from_pretrained(saved, dtype=torch.float32),
        args=arguments,
        train_dataset=pairs,
        processing_class=tiny_tokenizer(),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], init_lora_weights=False
        ),
    )
    theirs: Any = peer.model
    theirs.load_state_dict(model.state_dict(), strict=False)
    mask = (batch["labels"] != IGNORED).long()
    told = {name: batch[name] for name in ("input_ids", "attention_mask")}
    their_loss = peer.compute_loss(theirs, {**told, "completion_mask": mask})
    their_loss.backward()
    assert torch.isclose(loss, their_loss, rtol=1e-5)
    ours, of_trl = gradients(model), gradients(theirs)
    assert len(ours) == 8
    for name, gradient in ours.items():
        assert torch.allclose(gradient, of_trl[name], rtol=1e-4, atol=1e-7)


def test_without_a_step_nothing_is_preferred_and_the_loss_is_ln_2(
    saved: Path, prepared: PreparedExamples, tmp_path: Path
) -> None:
    found = trainer_of(adapted(saved, begun=False), prepared, tmp_path).evaluate()
    assert found["eval_loss"] == pytest.approx(0.693147, abs=1e-6)
    assert (found["eval_margin"], found["eval_preferred"]) == (0, 0)


def trained(saved: Path, prepared: PreparedExamples, out: Path, micro: int) -> PreferenceTrainer:
    set_seed(3)
    trainer = trainer_of(adapted(saved, begun=False), prepared, out, steps=12, micro=micro)
    trainer.train()
    return trainer


def test_held_out_pairs_are_told_apart_after_a_training(
    saved: Path, prepared: PreparedExamples, tmp_path: Path
) -> None:
    trainer = trained(saved, prepared, tmp_path, micro=2)
    found = trainer.evaluate()
    assert found["eval_loss"] < 0.65
    assert found["eval_margin"] > 0.05
    assert found["eval_preferred"] == 1
    # The reference is what it was: the adapter alone has learned.
    adapter = trainer.model
    assert isinstance(adapter, PeftModel)
    assert all("lora" in name for name, p in adapter.named_parameters() if p.requires_grad)


def test_a_step_is_the_mean_over_its_pairs_however_they_are_divided(
    saved: Path, prepared: PreparedExamples, tmp_path: Path
) -> None:
    """An epoch ends with a step of fewer pairs, and that with a micro batch of fewer."""
    assert prepared.counts.examples % 4 not in (0, 2)
    two, four = (trained(saved, prepared, tmp_path, micro=micro) for micro in (2, 4))
    losses = [
        [entry["loss"] for entry in each.state.log_history if "loss" in entry]
        for each in (two, four)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)  # sums in another order
