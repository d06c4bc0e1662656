"""Loads the model that is trained: the type of its weights, their device, 4 bits or 16.

Only the model's directory is read; nothing comes from the network.
"""

from pathlib import Path
from typing import Any, cast

import torch
from peft import prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from tasks.core.errors import TrainingFailed
from tasks.core.recipe import Finetune
from tasks.core.training.batching.packing import require_packable
from tasks.core.training.model.fused_kernels import fuse_kernels
from tasks.core.training.model.packed_attention import attend_within


def read_base_model(directory: Path, settings: Finetune, device: torch.device) -> PreTrainedModel:
    """Return the model in the training type, with the code in its directory.

    device: the one that this process computes on. Raises RecipeError for a model that cannot be
    batched as the settings say.
    """
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        directory,
        dtype=getattr(torch, settings.precision),
        trust_remote_code=True,
        local_files_only=True,
        **place_of_weights(settings, device),
        **quantization(settings),
    )
    model.config.use_cache = False
    if settings.batching == "pack":
        require_packable(model.config)
        attend_within(model)
    fuse_kernels(model, settings)
    if settings.quantization == "4bit":
        model = prepared_for_adapter(model, settings)
    return model


def place_of_weights(settings: Finetune, device: torch.device) -> dict[str, Any]:
    """Return the arguments that make `from_pretrained` load each weight straight onto the GPU.

    Without them every process would first hold the whole model on the host. Under ZeRO-3 only the
    first process reads the files, and transformers refuses a device map.
    """
    if settings.device == "cpu" or settings.zero_stage == 3:
        return {}
    return {"device_map": {"": str(device)}}


def quantization(settings: Finetune) -> dict[str, Any]:
    """Return the arguments that make `from_pretrained` quantize the layers' linear weights to NF4.

    ZeRO-3 divides parameters of one floating type, so there the packed bits lie in tensors of the
    training type instead of bytes (`bnb_4bit_quant_storage`; PEFT, docs/source/accelerate/
    deepspeed.md, "Use PEFT QLoRA and DeepSpeed with ZeRO3").
    """
    if settings.quantization == "none":
        return {}
    dtype = getattr(torch, settings.precision)
    config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=dtype if settings.zero_stage == 3 else torch.uint8,
    )
    return {"quantization_config": config}


def prepared_for_adapter(model: PreTrainedModel, settings: Finetune) -> PreTrainedModel:
    """Return a 4-bit model ready for an adapter.

    PEFT's preparation casts norms and embedding to fp32, which ZeRO-3 cannot divide together with
    the packed weights; the adapter freezes everything without it. Raises TrainingFailed if ZeRO-3
    would find parameters that it cannot divide together.
    """
    if settings.zero_stage != 3:
        return cast(
            "PreTrainedModel",
            prepare_model_for_kbit_training(model, use_gradient_checkpointing=False),
        )
    types = {parameter.dtype for parameter in model.parameters()}
    if types != {getattr(torch, settings.precision)}:
        raise TrainingFailed(
            "ZeRO-3 cannot divide these 4-bit weights.",
            where="finetune.quantization",
            expected=f"every parameter stored as {settings.precision}",
            found=", ".join(sorted(map(str, types))),
            next_step="Set finetune.zero_stage to 2, or quantization to none.",
        )
    return model
