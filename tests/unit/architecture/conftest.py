import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from transformers import dynamic_module_utils

from tasks.core.architecture.edit import edit_model
from tasks.core.recipe import ActivationEdit, Edit
from tests.models import tiny_llama

GELU_IN_THE_LAST = Edit(activations=(ActivationEdit(layers=(-1,), activation="gelu"),))


@pytest.fixture(scope="package", autouse=True)
def own_modules_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the code of the models under test out of the user's cache, here and in children.

    transformers reads the variable once, and Python remembers where the package of such code lies.
    """
    cache = str(tmp_path_factory.mktemp("hf_modules"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_MODULES_CACHE", cache)
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", cache)
        patch.setattr(sys, "path", [*sys.path])
        _forget_remote_code()
        yield
    _forget_remote_code()


def _forget_remote_code() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "transformers_modules"]:
        del sys.modules[name]


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
