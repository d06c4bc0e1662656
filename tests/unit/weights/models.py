"""Pairs of base and delta on the disk, in every dtype and form, for tests of the weights engine.

Values are chosen to be hard: subnormal and large numbers of float16, halves that must round to
even, and normalization weights that differ from one. Each is made once a process, and copied.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from tests.models import tiny_llama

Form = Literal["one", "many", "bin", "bins"]
StateDict = dict[str, torch.Tensor]

_HARD = (6e-8, -6e-8, 1e-9, 2.0**-14, 1 + 2**-11, 1 + 3 * 2**-11, 30000.0, -30000.0, 0.0, -0.0)
_FEW_ROWS = 32


@cache
def _made() -> tempfile.TemporaryDirectory[str]:
    """Return the directory of this process; when this is imported, all of them still are one."""
    return tempfile.TemporaryDirectory(prefix="kawan-usaha-made-")


def copy_of_first(key: object, path: Path, make: Callable[[Path], object]) -> Path:
    """Copy to path what make makes, which is made for the first of the same key."""
    made = Path(_made().name, hashlib.sha256(repr(key).encode()).hexdigest())
    if not made.exists():
        make(made)
    return shutil.copytree(made, path, copy_function=shutil.copyfile)


def contents(directory: Path) -> list[tuple[str, str]]:
    """Return the names and digests of the files in a directory, to tell it by."""
    return [
        (path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(directory.iterdir())
        if path.is_file()
    ]


def base_model(path: Path, *, dtype: str = "float16", form: Form = "one", **shape: int) -> Path:
    """Save a tiny LLaMA whose normalization weights are near one and whose embedding is hard."""
    key = ("base", dtype, form, sorted(shape.items()))
    return copy_of_first(key, path, lambda made: _make_base(made, dtype, form, shape))


def small_base_model(path: Path, *, dtype: str = "float32", form: Form = "one") -> Path:
    """Save one with fewer weights than a tokenizer allows, to be written in very small pieces."""
    key = ("small base", dtype, form)
    return copy_of_first(key, path, lambda made: _make_small_base(made, dtype, form))


def _make_small_base(path: Path, dtype: str, form: Form) -> Path:
    _make_base(path, "float32", "one", {"layers": 2})
    weights = load_file(path / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][:_FEW_ROWS].clone()
    config = path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "vocab_size": _FEW_ROWS}))
    return save(path, weights, dtype=dtype, form=form)


def _make_base(path: Path, dtype: str, form: Form, shape: dict[str, int]) -> Path:
    tiny_llama(path, dtype="float32", **shape)
    state_dict = load_file(path / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    for name, tensor in state_dict.items():
        if tensor.ndim == 1:
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.1)
        if "embed_tokens" in name:
            tensor[3, : len(_HARD)] = torch.tensor(_HARD)
    return save(path, state_dict, dtype=dtype, form=form)


def gpt2(path: Path, **options: object) -> Path:
    """Save a tiny GPT-2, whose linear layers are stored (in, out)."""
    return copy_of_first(("gpt2", options), path, lambda made: _make_gpt2(made, options))


def _make_gpt2(path: Path, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    config = GPT2Config(**{"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 50, **options})
    GPT2LMHeadModel(config).save_pretrained(path)


def delta_for(base: Path, path: Path, *, dtype: str = "float16", form: Form = "one") -> Path:
    """Save a small random delta for base, with base's configuration and a tokenizer of its own."""
    key = ("delta", contents(base), dtype, form)
    return copy_of_first(key, path, lambda made: _make_delta(base, made, dtype, form))


def _make_delta(base: Path, path: Path, dtype: str, form: Form) -> Path:
    path.mkdir(parents=True)
    generator = torch.Generator().manual_seed(2)
    state_dict = {
        name: 0.003 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in state_dict_of(base).items()
    }
    for name in (
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ):
        (path / name).write_bytes((base / name).read_bytes())
    (path / "tokenizer.model").write_bytes(b"a sentencepiece model")
    return save(path, state_dict, dtype=dtype, form=form)


def save(
    path: Path, state_dict: StateDict, *, dtype: str | None = None, form: Form = "one"
) -> Path:
    """Save state_dict as the weights of the model directory path, in place of those it has."""
    for old in [*path.glob("model*.safetensors*"), *path.glob("pytorch_model*")]:
        old.unlink()
    if dtype is not None:
        state_dict = {name: tensor.to(getattr(torch, dtype)) for name, tensor in state_dict.items()}
        _set_dtype(path / "config.json", dtype)
    stem, suffix = (
        ("model", ".safetensors") if form in ("one", "many") else ("pytorch_model", ".bin")
    )
    if form in ("one", "bin"):
        _write(path / f"{stem}{suffix}", state_dict)
        return path
    names = list(state_dict)
    count = 4 if form == "many" else 3
    weight_map = {}
    for i in range(count):
        shard = f"{stem}-{i + 1:05d}-of-{count:05d}{suffix}"
        part = {name: state_dict[name] for name in names[i::count]}
        _write(path / shard, part)
        weight_map |= dict.fromkeys(part, shard)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (path / f"{stem}{suffix}.index.json").write_text(json.dumps(index))
    return path


def state_dict_of(path: Path) -> StateDict:
    """Return the tensors of a model directory, by the reference loaders."""
    tensors: StateDict = {}
    for file in sorted(path.glob("model*.safetensors")):
        tensors |= load_file(file)
    for file in sorted(path.glob("pytorch_model*.bin")):
        tensors |= torch.load(file, weights_only=True)
    return tensors


def same_bits(one: StateDict, other: StateDict) -> bool:
    """Return True when both hold the same names with the same dtypes, shapes and bits."""
    return one.keys() == other.keys() and all(
        tensor.dtype == other[name].dtype
        and tensor.shape == other[name].shape
        and torch.equal(_bits(tensor), _bits(other[name]))
        for name, tensor in one.items()
    )


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().reshape(-1).view(torch.uint8)


def _write(file: Path, state_dict: StateDict) -> None:
    if file.suffix == ".bin":
        torch.save(state_dict, file)
    else:
        save_file({n: t.contiguous() for n, t in state_dict.items()}, file, {"format": "pt"})


def _set_dtype(config: Path, dtype: str) -> None:
    document = json.loads(config.read_text())
    document.pop("torch_dtype", None)
    config.write_text(json.dumps({**document, "dtype": dtype}))
