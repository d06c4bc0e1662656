"""An embedded Hub that counts what it is sent, and tiny models to send."""

import json
from collections.abc import Iterator

import pytest

from tasks.core.hub.publish.to_hub import verify
from tests.models import tiny_llama
from tests.prefork import handed_over, preforked
from tests.unit.hub.publish.world import Build, PublishHub, publish_hub

_PROBE = "tasks.core.hub.publish.to_hub.load_probe"
_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM


class TinyEditedConfig(LlamaConfig):
    model_type = "tiny_edited"


class TinyEditedForCausalLM(LlamaForCausalLM):
    config_class = TinyEditedConfig
"""


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> Build:
    """A sharded model of transformers' own class."""
    model = tiny_llama(tmp_path_factory.mktemp("plain"), layers=1, hidden=512, sharded=True)
    return Build.of("first", model)


@pytest.fixture(scope="session")
def edited(tmp_path_factory) -> Build:
    """Another model, whose code travels with it, with a file that `plain` does not have."""
    model = tiny_llama(tmp_path_factory.mktemp("edited"), layers=1, hidden=64, seed=1)
    (model / "modeling_tiny_edited.py").write_text(_CODE)
    config = json.loads((model / "config.json").read_text())
    config |= {
        "model_type": "tiny_edited",
        "architectures": ["TinyEditedForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling_tiny_edited.TinyEditedConfig",
            "AutoModelForCausalLM": "modeling_tiny_edited.TinyEditedForCausalLM",
        },
    }
    (model / "config.json").write_text(json.dumps(config))
    return Build.of("second", model)


@pytest.fixture
def hub(tmp_path) -> Iterator[PublishHub]:
    """An empty Hub that the real client talks to, with faults to switch on."""
    with publish_hub(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishing without the proof that the model loads: seconds each time, tested elsewhere."""
    monkeypatch.setattr("tasks.core.hub.publish.to_hub.protocol.verify_upload", lambda *_: None)


@pytest.fixture(scope="module")
def preforked_probe() -> Iterator[None]:
    """Spare the proof that the model loads its imports; the lifecycle test does not."""
    preforked("torch", _PROBE)  # the server starts now, not while main is watched
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            verify, "_probe", lambda *words: handed_over(preforked("torch", _PROBE, *words))
        )
        yield
