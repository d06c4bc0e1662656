"""The training state in a form that any ZeRO stage and offload resumes from.

DeepSpeed's own checkpoint fits the division of the state that wrote it, and is exact to the bit.
Beside it lie the trained parameters and Adam's moments, undivided and in fp32: a few megabytes for
an adapter. From them a training with another division continues with the same batches and moments,
but not to the same bits. Only DeepSpeed's public access functions are used; its universal
checkpoints do not change between ZeRO stages (docs/decisions/0006-checkpoints.md).
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tasks.core.training.checkpoints.directory import DIVISION, PORTABLE

_CLOCK = "clock"
_WEIGHT = "weight"
_MOMENTS = ("exp_avg", "exp_avg_sq")


def write_portable(
    engine: Any, model: torch.nn.Module, division: str, checkpoint: Path, *, writes: bool
) -> None:
    """Write the state into a checkpoint, if the optimizer exposes it. Every process must call this.

    writes: this process is the one that writes the files.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in _trained(model):
        for key in (_WEIGHT, *_MOMENTS):
            value = _read(engine, parameter, key)
            if value is None:  # 16 bits without ZeRO expose no state
                tensors.clear()
                break
            tensors[f"{name}/{key}"] = value.detach().float().cpu().clone()
    if writes:
        (checkpoint / DIVISION).write_text(division)
        if tensors:
            clock = {"steps": _steps_taken(engine), "schedule": engine.lr_scheduler.state_dict()}
            notes = {"format": "pt", _CLOCK: json.dumps(clock)}
            save_file(tensors, checkpoint / PORTABLE, metadata=notes)


def restore_portable(
    engine: Any, model: torch.nn.Module, checkpoint: Path, batch: Mapping[str, torch.Tensor]
) -> None:
    """Restore the state of a checkpoint in a fresh engine. Every process must call this.

    Adam's moments do not exist before its first step, so one step with a loss of zero is taken
    first, and its result overwritten. batch: any batch, on the engine's device.
    """
    tensors = load_file(checkpoint / PORTABLE)
    for _ in range(engine.gradient_accumulation_steps()):
        engine.backward(engine(**batch).loss * 0.0)
        engine.step()
    for name, parameter in _trained(model):
        for key in (_WEIGHT, *_MOMENTS):
            _write(engine, parameter, key, tensors[f"{name}/{key}"])
        _set_working_copy(parameter, tensors[f"{name}/{_WEIGHT}"])
    _set_clock(engine, checkpoint)


def _trained(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, each) for name, each in model.named_parameters() if each.requires_grad)


def _is_divided(parameter: torch.nn.Parameter) -> bool:
    return hasattr(parameter, "ds_id") or hasattr(parameter, "_hp_mapping")


def _read(engine: Any, parameter: torch.nn.Parameter, key: str) -> torch.Tensor | None:
    value: torch.Tensor | None
    if _is_divided(parameter):
        if key == _WEIGHT:
            value = safe_get_full_fp32_param(parameter)
        else:
            value = safe_get_full_optimizer_state(parameter, key)
        return value
    if key == _WEIGHT:
        return parameter
    value = _inner(engine).state.get(parameter, {}).get(key)
    return value


def _write(engine: Any, parameter: torch.nn.Parameter, key: str, value: torch.Tensor) -> None:
    value = value.to(engine.device)
    if not _is_divided(parameter):
        target = parameter.data if key == _WEIGHT else _inner(engine).state[parameter][key]
        target.copy_(value)
    elif key == _WEIGHT:
        safe_set_full_fp32_param(parameter, value)
    else:
        safe_set_full_optimizer_state(parameter, value, key)


def _set_working_copy(parameter: torch.nn.Parameter, value: torch.Tensor) -> None:
    """Set the copy that the next forward pass reads: DeepSpeed refreshes it only after a step."""
    if not hasattr(parameter, "ds_id"):
        parameter.data.copy_(value)
        return
    with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
        parameter.data.copy_(value)


def _inner(engine: Any) -> torch.optim.Optimizer:
    """Return torch's optimizer, which DeepSpeed wraps in its own, except for fp32 without ZeRO."""
    optimizer: torch.optim.Optimizer = getattr(engine.optimizer, "optimizer", engine.optimizer)
    return optimizer


def _states(engine: Any) -> list[dict[str, Any]]:
    return [state for state in _inner(engine).state.values() if "step" in state]


def _steps_taken(engine: Any) -> int:
    return max(int(state["step"]) for state in _states(engine))


def _set_clock(engine: Any, checkpoint: Path) -> None:
    """Set the step counts of Adam and of the schedule, and the learning rate that follows."""
    with safe_open(checkpoint / PORTABLE, framework="pt") as file:
        clock = json.loads(file.metadata()[_CLOCK])
    for state in _states(engine):
        if torch.is_tensor(state["step"]):
            state["step"].fill_(clock["steps"])
        else:
            state["step"] = clock["steps"]
    engine.lr_scheduler.load_state_dict(clock["schedule"])
    rates = engine.lr_scheduler.get_last_lr()
    for group, rate in zip(engine.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
