import dataclasses

import pytest

from tasks.core.errors import RecipeError
from tasks.core.planning.activations import (
    kept_bytes,
    layer_kept_bytes_per_token,
    lora_targets,
    loss_bytes,
    working_bytes,
)
from tasks.core.planning.shape import LINEAR_NAMES, ModelShape
from tasks.core.recipe import Finetune, Lora
from tests.unit.planning.reference import watched_forward, watched_step

SHAPE = ModelShape(
    layers=4, hidden=128, intermediate=352, heads=4, kv_heads=2, head_dim=32, vocab=64
)
WIDE_VOCABULARY = dataclasses.replace(SHAPE, vocab=4000)
TARGETS = [("q_proj", "v_proj"), LINEAR_NAMES, ("o_proj",), ("down_proj",)]


def finetune(**changes) -> Finetune:
    lora = Lora(
        target_modules=changes.pop("targets", ("q_proj", "v_proj")),
        dropout=changes.pop("dropout", 0.05),
    )
    small = {"micro_batch_size": 2, "max_length_tokens": 64, "device": "cpu", "lora": lora}
    return Finetune(**{**small, **changes})


def watched_layer(asked: Finetune) -> int:
    """Return the bytes that a layer other than the first, which keeps less, keeps in a model."""
    two, three = (
        watched_forward(dataclasses.replace(SHAPE, layers=layers), asked) for layers in (2, 3)
    )
    return three - two


def test_a_target_that_llama_does_not_have_is_refused_with_those_it_has():
    with pytest.raises(RecipeError) as refused:
        lora_targets(Lora(target_modules=("q_proj", "query_key_value")))
    assert refused.value.found == "query_key_value"
    assert "down_proj" in str(refused.value)


def test_all_linear_means_every_linear_module_of_a_layer():
    assert lora_targets(Lora(target_modules="all-linear")) == LINEAR_NAMES


@pytest.mark.parametrize("targets", TARGETS, ids=["qv", "all", "o", "down"])
@pytest.mark.parametrize("dropout", [0.0, 0.05])
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_layer_keeps_to_the_byte_what_autograd_keeps(targets, dropout, precision):
    asked = finetune(
        targets=targets, dropout=dropout, precision=precision, gradient_checkpointing=False
    )
    tokens = asked.micro_batch_size * asked.max_length_tokens
    assert watched_layer(asked) == tokens * layer_kept_bytes_per_token(SHAPE, asked)


def test_with_checkpointing_a_layer_keeps_its_input_only():
    asked = finetune(gradient_checkpointing=True)
    deeper = dataclasses.replace(SHAPE, layers=SHAPE.layers + 1)
    assert watched_layer(asked) == kept_bytes(deeper, asked) - kept_bytes(SHAPE, asked)


# By preference there are more rows and another loss; a layer's targets keep what they always do.
@pytest.mark.parametrize(
    ("method", "targets"),
    [("sft", ("q_proj", "v_proj")), ("sft", LINEAR_NAMES), ("dpo", ("q_proj", "v_proj"))],
    ids=["sft-qv", "sft-all", "dpo-qv"],
)
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("shape", "length_tokens"), [(SHAPE, 64), (WIDE_VOCABULARY, 32)], ids=["layer", "loss"]
)
def test_the_peak_of_a_real_step_is_foreseen_and_hardly_ever_above(  # noqa: PLR0917
    shape, length_tokens, checkpointing, precision, method, targets
):
    asked = finetune(
        targets=targets,
        precision=precision,
        gradient_checkpointing=checkpointing,
        method=method,
        max_length_tokens=length_tokens,
    )
    foreseen = kept_bytes(shape, asked) + working_bytes(shape, asked)
    # Too little would be an out-of-memory error: at most 2% of it. Too much is a card too large:
    # the first layer, which keeps less than the others, is a quarter of this model.
    assert 0.98 < foreseen / watched_step(shape, asked).peak < 1.2


def test_dropout_keeps_a_mask_of_a_byte_on_cuda_and_of_the_type_on_the_cpu():
    on_cpu, on_cuda = (finetune(device=device) for device in ("cpu", "cuda"))
    masks = 2 * SHAPE.hidden  # one for q_proj and one for v_proj, one byte an element apart
    assert (
        layer_kept_bytes_per_token(SHAPE, on_cpu) - layer_kept_bytes_per_token(SHAPE, on_cuda)
        == masks
    )


def test_a_wide_vocabulary_makes_the_loss_the_largest_need():
    asked = finetune()
    assert working_bytes(WIDE_VOCABULARY, asked) == loss_bytes(WIDE_VOCABULARY, asked)
    assert working_bytes(SHAPE, asked) > loss_bytes(SHAPE, asked)
