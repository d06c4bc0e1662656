"""The models of the demo as its stages leave them, made once in a directory: base to fine-tuned."""

from pathlib import Path

import torch

from tasks.core.architecture.edit import edit_model
from tasks.core.demo.models import split
from tasks.core.evaluation.figures import Role
from tasks.core.recipe import Edit
from tests.benchmarks.demo_model import save_demo_model

TEMPLATE = "Yi-34b-chat"
EDIT = Edit()
_TUNED_BY = 0.002  # of a tensor's spread: as far as a few steps of LoRA move it


def demo_chain(root: Path) -> list[tuple[Role, Path]]:
    """Return the four models below root, making what is not there."""
    names: tuple[Role, ...] = ("base", "merged", "edited", "fine-tuned")
    chain = [(name, root / name) for name in names]
    if not all(path.is_dir() for _, path in chain):
        _make(root)
    return chain


def _make(root: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = save_demo_model(root / "merged")
    model = AutoModelForCausalLM.from_pretrained(merged)
    tokenizer = AutoTokenizer.from_pretrained(merged)
    target = {name: weight.clone() for name, weight in model.state_dict().items()}
    for name, weights in {"base": split(target)[0], "plain": _moved(target)}.items():
        model.load_state_dict(weights)
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    for source, name in (("merged", "edited"), ("plain", "fine-tuned")):
        (root / name).mkdir()
        edit_model(root / source, EDIT, root / name)


def _moved(target: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        name: weight
        + (_TUNED_BY * weight.float().std() * torch.randn(weight.shape, generator=generator)).to(
            weight.dtype
        )
        for name, weight in target.items()
    }
