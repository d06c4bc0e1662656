"""Publishing to a Hub on this machine, which does not speak Xet, from a process that does."""

import pytest
from huggingface_hub import constants
from huggingface_hub.utils._runtime import is_xet_available

from tests.unit.hub.publish.world import REPO, PublishHub


@pytest.fixture(autouse=True)
def xet(hub: PublishHub, monkeypatch: pytest.MonkeyPatch) -> None:  # the Hub's world is without
    """As in a Prefect worker, where huggingface_hub is imported before the recipe is known."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    assert is_xet_available()


@pytest.mark.usefixtures("unproven")
def test_build_is_published_by_lfs(hub, plain):
    receipt = plain.publish()
    there = {file.path: file.size for file in hub.api.list_repo_tree(REPO, recursive=True)}
    assert receipt.commit == hub.api.model_info(REPO).sha
    for path in plain.model.glob("*.safetensors"):
        assert there[path.name] == path.stat().st_size
    assert set(hub.uploads.complete.values()) == {1}  # each file once
    assert plain.publish().commit == receipt.commit
