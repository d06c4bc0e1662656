"""Private names of other libraries: there, still called, and missed by name when they are gone."""

import inspect

import pytest
from transformers import Trainer

from tasks.core.errors import MissingTool
from tasks.core.recipe import Finetune
from tasks.core.training.launch.tools import require_tools
from tasks.core.training.trainer import hooks
from tasks.core.training.trainer.adapter_trainer import AdapterTrainer
from tasks.core.training.trainer.hooks import OVERRIDDEN, require_hooks
from tasks.core.training.trainer.preference_trainer import PreferenceTrainer

PUBLIC = {"__init__", "compute_loss", "evaluate", "log", "save_model"}
"""What transformers documents for overriding."""


def test_the_installed_libraries_have_all_that_the_training_stands_on() -> None:
    require_hooks()


def test_a_method_that_is_gone_is_named_with_the_version_that_lacks_it() -> None:
    with pytest.raises(MissingTool, match=r"transformers 5\.\d+.* Trainer\._gone") as caught:
        require_hooks({"_gone": ("self",)}, {})
    assert "requirements.lock" in str(caught.value)


def test_a_method_that_takes_something_else_is_named_with_what_it_takes() -> None:
    with pytest.raises(MissingTool, match=r"takes self, directory[\s\S]*takes self, output_dir"):
        require_hooks({"_save_optimizer_and_scheduler": ("self", "directory")}, {})


def test_a_method_that_is_never_called_is_not_one_to_override(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hooks, "_text", lambda _: "class Trainer:\n def _hook(self): ...")
    with pytest.raises(MissingTool, match="never called"):
        require_hooks({"_hook": ("self",)}, {})


def test_a_name_that_is_gone_is_found_in_its_file() -> None:
    with pytest.raises(MissingTool, match=r"no _gone[\s\S]*masking_utils"):
        require_hooks({}, {"transformers/masking_utils.py": ("_gone",)})


def test_a_training_looks_for_them_before_anything_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hooks, "_text", lambda _: "")
    with pytest.raises(MissingTool, match="Trainer"):
        require_tools(Finetune(device="cpu"))


def test_everything_that_the_trainer_overrides_is_listed() -> None:
    own = {
        name
        for kind in (AdapterTrainer, PreferenceTrainer)
        for name, each in vars(kind).items()
        if inspect.isfunction(each)
    }
    assert own & vars(Trainer).keys() - PUBLIC == OVERRIDDEN.keys()
