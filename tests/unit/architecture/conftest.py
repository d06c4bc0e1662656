from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.architecture.edit import edit_model
from tasks.core.recipe import ActivationEdit, Edit
from tests.models import tiny_llama

GELU_IN_THE_LAST = Edit(activations=(ActivationEdit(layers=(-1,), activation="gelu"),))


@pytest.fixture
def stock(tmp_path: Path) -> Path:
    """A plain LLaMA of three layers."""
    return tiny_llama(tmp_path / "stock")


@pytest.fixture
def edit_into(tmp_path: Path) -> Callable[..., Path]:
    """Edit a model into a new directory beside it."""

    def edit(model: Path, edit: Edit = GELU_IN_THE_LAST, name: str = "edited") -> Path:
        out = tmp_path / name
        out.mkdir()
        edit_model(model, edit, out)
        return out

    return edit


@pytest.fixture
def edited(stock: Path, edit_into: Callable[..., Path]) -> Path:
    """The plain one with GELU in its last layer."""
    return edit_into(stock)
