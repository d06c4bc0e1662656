import pytest

from tasks.core.errors import RecipeError
from tasks.core.recipe import Finetune
from tasks.core.training.deepspeed_config import deepspeed_config


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"offload": "optimizer", "zero_stage": 0}, "finetune.offload"),
        ({"offload": "all", "zero_stage": 2}, "finetune.offload"),
        ({"precision": "float16", "device": "cpu"}, "finetune.precision"),
        ({"quantization": "4bit", "zero_stage": 3}, "finetune.quantization"),
        ({"quantization": "4bit", "zero_stage": 2, "device": "cpu"}, "finetune.quantization"),
    ],
)
def test_what_cannot_be_combined_is_refused(settings: dict[str, object], field: str) -> None:
    with pytest.raises(RecipeError, match=field):
        deepspeed_config(Finetune.model_validate(settings))


def test_stage_0_divides_nothing() -> None:
    assert deepspeed_config(Finetune(zero_stage=0))["zero_optimization"] == {"stage": 0}


@pytest.mark.parametrize(
    ("stage", "offload", "offloaded"),
    [
        (2, "none", set()),
        (2, "optimizer", {"offload_optimizer"}),
        (3, "none", set()),
        (3, "optimizer", {"offload_optimizer"}),
        (3, "all", {"offload_optimizer", "offload_param"}),
    ],
)
def test_offload_goes_to_the_host(stage: int, offload: str, offloaded: set[str]) -> None:
    settings = Finetune.model_validate({"zero_stage": stage, "offload": offload})
    zero = deepspeed_config(settings)["zero_optimization"]
    assert isinstance(zero, dict)
    assert zero["stage"] == stage
    assert {name for name in zero if name.startswith("offload_")} == offloaded
    assert all(zero[name] == {"device": "cpu", "pin_memory": True} for name in offloaded)


@pytest.mark.parametrize("offload", ["none", "optimizer"])
def test_only_an_offloaded_optimizer_is_deepspeeds_own(offload: str) -> None:
    settings = Finetune.model_validate({"offload": offload})
    optimizer = deepspeed_config(settings)["optimizer"]
    assert isinstance(optimizer, dict) and isinstance(optimizer["params"], dict)
    assert optimizer["params"]["torch_adam"] == (offload == "none")


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_precision_switches_on_one_type_at_most(precision: str) -> None:
    config = deepspeed_config(Finetune.model_validate({"precision": precision}))
    enabled = {"float16": "fp16", "bfloat16": "bf16"}.get(precision)
    for name in ("fp16", "bf16"):
        assert config[name] == {"enabled": name == enabled}


def test_batches_and_rates_are_the_recipes() -> None:
    settings = Finetune(
        micro_batch_size=3, gradient_accumulation_steps=5, learning_rate=1e-3, weight_decay=0.1
    )
    config = deepspeed_config(settings)
    assert config["train_micro_batch_size_per_gpu"] == 3
    assert config["gradient_accumulation_steps"] == 5
    assert isinstance(config["optimizer"], dict) and isinstance(config["optimizer"]["params"], dict)
    assert config["optimizer"]["params"]["lr"] == 1e-3
    assert config["optimizer"]["params"]["weight_decay"] == 0.1
