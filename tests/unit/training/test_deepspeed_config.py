from pathlib import Path

import pytest

from tasks.core.errors import RecipeError
from tasks.core.planning.shape import LLAMA_13B
from tasks.core.planning.training_memory import training_memory
from tasks.core.recipe import Finetune
from tasks.core.training.deepspeed_config import deepspeed_config


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"offload": "optimizer", "zero_stage": 0}, "finetune.offload"),
        ({"offload": "all", "zero_stage": 2}, "finetune.offload"),
        ({"offload_directory": "/fast", "zero_stage": 3}, "finetune.offload_directory"),
        (
            {"offload_directory": "/fast", "zero_stage": 2, "offload": "optimizer"},
            "finetune.offload_directory",
        ),
        ({"precision": "float16", "device": "cpu"}, "finetune.precision"),
        ({"quantization": "4bit", "zero_stage": 3, "offload": "all"}, "finetune.quantization"),
        ({"quantization": "4bit", "zero_stage": 2, "device": "cpu"}, "finetune.quantization"),
    ],
)
def test_what_cannot_be_combined_is_refused(settings: dict[str, object], field: str) -> None:
    with pytest.raises(RecipeError, match=field):
        deepspeed_config(Finetune.model_validate(settings))


def test_4_bit_weights_may_be_divided() -> None:
    settings = Finetune(quantization="4bit", zero_stage=3, processes=2)
    zero = deepspeed_config(settings)["zero_optimization"]
    assert isinstance(zero, dict)
    assert "offload_param" not in zero


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


def test_pinning_is_what_planning_counts() -> None:
    """`pin_memory` is one field for both: planning's term `pinning` and DeepSpeed's switch."""
    for pinned in (True, False):
        settings = Finetune(zero_stage=3, offload="all", pin_memory=pinned)
        zero = deepspeed_config(settings)["zero_optimization"]
        assert isinstance(zero, dict)
        assert zero["offload_param"] == {"device": "cpu", "pin_memory": pinned}
        terms = {term.name for term in training_memory(LLAMA_13B, settings).host}
        assert ("pinning" in terms) == pinned


def test_offload_goes_to_the_disk_that_is_named(tmp_path: Path) -> None:
    settings = Finetune(zero_stage=3, offload="all", offload_directory=tmp_path)
    zero = deepspeed_config(settings)["zero_optimization"]
    assert isinstance(zero, dict)
    for name in ("offload_param", "offload_optimizer"):
        assert zero[name] == {"device": "nvme", "nvme_path": str(tmp_path), "pin_memory": True}


@pytest.mark.parametrize(
    ("offload", "device", "compiled"),
    [("none", "cuda", False), ("optimizer", "cuda", True), ("optimizer", "cpu", False)],
)
def test_only_an_optimizer_that_leaves_a_gpu_is_deepspeeds_own(
    offload: str, device: str, compiled: bool
) -> None:
    config = deepspeed_config(Finetune.model_validate({"offload": offload, "device": device}))
    optimizer = config["optimizer"]
    assert isinstance(optimizer, dict) and isinstance(optimizer["params"], dict)
    assert optimizer["params"]["torch_adam"] == (not compiled)
    assert config["zero_force_ds_cpu_optimizer"] == compiled


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_precision_switches_on_one_type_at_most(precision: str) -> None:
    config = deepspeed_config(Finetune.model_validate({"precision": precision}))
    enabled = {"float16": "fp16", "bfloat16": "bf16"}.get(precision)
    for name in ("fp16", "bf16"):
        assert config[name] == {"enabled": name == enabled}


def test_batches_and_rates_are_the_recipes() -> None:
    settings = Finetune(
        micro_batch_size=3,
        gradient_accumulation_steps=5,
        learning_rate=1e-3,
        weight_decay=0.1,
        max_grad_norm=0.5,
    )
    config = deepspeed_config(settings)
    assert config["train_micro_batch_size_per_gpu"] == 3
    assert config["gradient_accumulation_steps"] == 5
    assert config["gradient_clipping"] == 0.5
    assert isinstance(config["optimizer"], dict) and isinstance(config["optimizer"]["params"], dict)
    assert config["optimizer"]["params"]["lr"] == 1e-3
    assert config["optimizer"]["params"]["weight_decay"] == 0.1
