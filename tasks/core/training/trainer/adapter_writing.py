"""Writes the adapter: PEFT's files, whole on the disk, the same bytes on every machine."""

from collections.abc import Mapping
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file

from tasks.core.files.durable import fsync_tree, make_directory


def trained_parameters(model: PeftModel) -> dict[str, torch.Tensor]:
    """Return whole copies of the trained parameters on the host. Every process must call this."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not any(hasattr(parameter, "ds_id") for parameter in named.values()):
        return _on_host(named)
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(named.values())):
        return _on_host(named)


def _on_host(named: Mapping[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().cpu().clone() for name, parameter in named.items()}


def write_adapter(
    model: PeftModel, state_dict: Mapping[str, torch.Tensor], directory: Path
) -> None:
    """Write adapter_model.safetensors and adapter_config.json, and sync them."""
    make_directory(directory)
    tensors = get_peft_model_state_dict(
        model, state_dict=dict(state_dict), save_embedding_layers=False
    )
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        directory / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    config = model.peft_config[model.active_adapter]
    # The base is whatever model this artifact was made from: a path would be right on this machine
    # only.
    config.base_model_name_or_path, config.inference_mode = None, True
    if isinstance(config.target_modules, set):  # whose order differs between processes
        config.target_modules = sorted(config.target_modules)
    config.save_pretrained(directory)
    fsync_tree(directory)
