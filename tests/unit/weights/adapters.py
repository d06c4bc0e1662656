"""Adapters that PEFT saves and fuses, the reference of the tests of fuse."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.unit.weights.models import StateDict, contents, copy_of_first, state_dict_of


def train(model: Path, path: Path, *, safe: bool = True, **options: object) -> Path:
    """Save an adapter whose every trainable weight was moved at random, as after a training."""
    key = ("adapter", contents(model), safe, options)
    copy_of_first(key, path, lambda made: _train(model, made, safe, options))
    configure(path, "adapter_config.json", base_model_name_or_path=str(model))
    return path


def loaded(model: Path) -> PreTrainedModel:
    """Return what transformers loads, which it does once a process for the same files."""
    key = str(contents(model))
    if key not in _LOADED:
        _LOADED[key] = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
    found = copy.deepcopy(_LOADED[key])
    found.name_or_path = str(model)
    return found


_LOADED: dict[str, PreTrainedModel] = {}


def _train(model: Path, path: Path, safe: bool, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], **options})
    peft_model = get_peft_model(loaded(model), config)
    generator = torch.Generator().manual_seed(5)
    for parameter in peft_model.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.add_((0.05 * noise).to(parameter.dtype))
    peft_model.create_or_update_model_card = lambda _: None  # as long as all the rest
    peft_model.save_pretrained(path)
    if not safe:
        torch.save(load_file(path / "adapter_model.safetensors"), path / "adapter_model.bin")
        (path / "adapter_model.safetensors").unlink()


def fused_by_peft(model: Path, adapter: Path) -> StateDict:
    peft_model = PeftModel.from_pretrained(loaded(model), adapter)
    return dict(peft_model.merge_and_unload().state_dict())


def assert_within_one_rounding(
    model: Path, ours: StateDict, theirs: StateDict, *, more: int = 1
) -> None:
    """Check that no weight is further from PEFT's than one unit in the last place of its terms.

    The terms are the weight before and its change: for embeddings PEFT rounds the change itself.
    In float32 the order of the sums in B @ A shows too: some roundings of products below 0.1.
    more is the number of roundings, where there is more than the sum's.
    """
    before = state_dict_of(model)
    assert ours.keys() == theirs.keys() == before.keys()
    for name, tensor in ours.items():
        expected, info = theirs[name], torch.finfo(tensor.dtype)
        assert tensor.dtype == expected.dtype
        start, end = before[name].double(), expected.double()
        largest = torch.stack([start.abs(), end.abs(), (end - start).abs()]).amax(0)
        smallest, roundings = (0.1, 4) if tensor.dtype == torch.float32 else (info.tiny, 1)
        allowed = more * roundings * info.eps * largest.clamp(min=smallest)
        assert bool(((tensor.double() - end).abs() <= allowed).all()), name


def configure(directory: Path, file: str, **fields: object) -> None:
    path = directory / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def rewrite(adapter: Path, change: Callable[[StateDict], StateDict]) -> None:
    path = adapter / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)
