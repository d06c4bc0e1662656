"""The model that the tests of a training's inner parts share."""

from pathlib import Path

import pytest
from transformers.models.llama import modeling_llama

from tasks.core.architecture.edit import edit_model
from tasks.core.recipe import Edit
from tests.models import tiny_llama


@pytest.fixture(autouse=True)
def transformers_own_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave it to other tests of this process; a model that is read to be trained changes it."""
    own = modeling_llama.apply_rotary_pos_emb
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", own)


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny model of two layers with the recipe's own edit."""
    plain = tiny_llama(tmp_path_factory.mktemp("model") / "plain", layers=2, dtype="float32")
    out = plain.parent / "edited"
    out.mkdir()
    edit_model(plain, Edit(), out)
    return out
