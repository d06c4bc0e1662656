"""The DeepSpeed configuration of a recipe. Pure: no device is looked at.

Source of the fields: DeepSpeed's documentation, docs/_pages/config-json.md. transformers fills in
"auto" from the model's hidden size.
"""

from pydantic import JsonValue

from tasks.core.errors import RecipeError
from tasks.core.recipe import Finetune

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8


def deepspeed_config(settings: Finetune) -> dict[str, JsonValue]:
    """Return the configuration. Raises RecipeError for combinations that DeepSpeed lacks."""
    _require_possible(settings)
    # torch's own Adam without offload: DeepSpeed's is compiled first, to save microseconds on the
    # few parameters of an adapter. On a CPU nothing is moved, so it never pays there.
    torch_adam = settings.offload == "none" or settings.device == "cpu"
    return {
        "train_micro_batch_size_per_gpu": settings.micro_batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "gradient_clipping": settings.max_grad_norm,
        "bf16": {"enabled": settings.precision == "bfloat16"},
        "fp16": {"enabled": settings.precision == "float16"},
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": settings.learning_rate,
                "betas": list(ADAM_BETAS),
                "eps": ADAM_EPSILON,
                "weight_decay": settings.weight_decay,
                "torch_adam": torch_adam,
            },
        },
        "zero_force_ds_cpu_optimizer": not torch_adam,
        "zero_optimization": _zero(settings),
    }


def _zero(settings: Finetune) -> dict[str, JsonValue]:
    zero: dict[str, JsonValue] = {"stage": settings.zero_stage}
    if settings.zero_stage == 0:
        return zero
    place = _offload_place(settings)
    zero["overlap_comm"] = settings.device == "cuda"
    zero["reduce_bucket_size"] = "auto"
    if settings.offload != "none":
        zero["offload_optimizer"] = place
    if settings.zero_stage == 3:
        zero["stage3_prefetch_bucket_size"] = "auto"
        zero["stage3_param_persistence_threshold"] = "auto"
        if settings.offload == "all":
            zero["offload_param"] = place
    return zero


def _offload_place(settings: Finetune) -> JsonValue:
    place: dict[str, JsonValue] = {
        "device": "cpu",
        # Page-locked pieces are rounded up to powers of two: the planning term `pinning`.
        "pin_memory": settings.pin_memory and settings.device == "cuda",
    }
    if settings.offload_directory is not None:
        place |= {"device": "nvme", "nvme_path": str(settings.offload_directory.resolve())}
    return place


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
    if settings.offload_directory is not None and (
        settings.offload == "none" or settings.zero_stage != 3 or settings.device == "cpu"
    ):
        raise RecipeError(
            "DeepSpeed offloads to a disk only under ZeRO-3 on a GPU.",
            where="finetune.offload_directory",
            expected="device cuda, zero_stage 3, offload optimizer or all",
            found=f"device {settings.device}, ZeRO-{settings.zero_stage}, "
            f"offload {settings.offload}",
            next_step="Leave finetune.offload_directory empty, or change the other settings.",
        )
    if settings.precision == "float16" and settings.device == "cpu":
        raise RecipeError(
            "DeepSpeed does not train in float16 on a CPU.",
            where="finetune.precision",
            expected="bfloat16 or float32",
            found=settings.precision,
        )
    if settings.quantization == "4bit" and (settings.offload == "all" or settings.device == "cpu"):
        raise RecipeError(
            "4-bit weights need a GPU, and stay on it.",
            where="finetune.quantization",
            expected="device cuda, offload none or optimizer",
            found=f"device {settings.device}, offload {settings.offload}",
            next_step="Set finetune.offload to none on a GPU, or quantization to none.",
        )
