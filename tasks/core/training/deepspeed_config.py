"""The DeepSpeed configuration that a recipe asks for. Pure: no device is looked at.

Source of the fields: DeepSpeed's documentation, docs/_pages/config-json.md. What is "auto" is
filled in by transformers from the model's hidden size.
"""

from pydantic import JsonValue

from tasks.core.errors import RecipeError
from tasks.core.recipe import Finetune

MAX_GRAD_NORM = 1.0
ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8


def deepspeed_config(settings: Finetune) -> dict[str, JsonValue]:
    """Return the configuration. Raises RecipeError for what DeepSpeed cannot combine."""
    _require_possible(settings)
    return {
        "train_micro_batch_size_per_gpu": settings.micro_batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "gradient_clipping": MAX_GRAD_NORM,
        "bf16": {"enabled": settings.precision == "bfloat16"},
        "fp16": {"enabled": settings.precision == "float16"},
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": settings.learning_rate,
                "betas": list(ADAM_BETAS),
                "eps": ADAM_EPSILON,
                "weight_decay": settings.weight_decay,
                # Without offload torch's own: DeepSpeed's would be compiled with nvcc first, to
                # save microseconds on the few parameters of an adapter.
                "torch_adam": settings.offload == "none",
            },
        },
        "zero_optimization": _zero(settings),
    }


def _zero(settings: Finetune) -> dict[str, JsonValue]:
    zero: dict[str, JsonValue] = {"stage": settings.zero_stage}
    if settings.zero_stage == 0:
        return zero
    host: JsonValue = {"device": "cpu", "pin_memory": settings.device == "cuda"}
    zero["overlap_comm"] = settings.device == "cuda"
    zero["reduce_bucket_size"] = "auto"
    if settings.offload != "none":
        zero["offload_optimizer"] = host
    if settings.zero_stage == 3:
        zero["stage3_prefetch_bucket_size"] = "auto"
        zero["stage3_param_persistence_threshold"] = "auto"
        if settings.offload == "all":
            zero["offload_param"] = host
    return zero


def _require_possible(settings: Finetune) -> None:
    needed = {"none": 0, "optimizer": 2, "all": 3}[settings.offload]
    if settings.zero_stage < needed:
        raise RecipeError(
            f"DeepSpeed cannot offload ({settings.offload}) at this ZeRO stage.",
            where="finetune.offload",
            expected=f"finetune.zero_stage {'2 or 3' if needed == 2 else needed}",
            found=settings.zero_stage,
            next_step="Raise finetune.zero_stage, or set finetune.offload to none.",
        )
    if settings.precision == "float16" and settings.device == "cpu":
        raise RecipeError(
            "DeepSpeed does not train in float16 on a CPU.",
            where="finetune.precision",
            expected="bfloat16 or float32",
            found=settings.precision,
        )
    if settings.quantization == "4bit" and (settings.zero_stage == 3 or settings.device == "cpu"):
        raise RecipeError(
            "4-bit weights need a GPU, and cannot be divided by ZeRO-3.",
            where="finetune.quantization",
            found=f"device {settings.device}, ZeRO-{settings.zero_stage}",
            next_step="Set finetune.zero_stage to 2 on a GPU, or quantization to none.",
        )
