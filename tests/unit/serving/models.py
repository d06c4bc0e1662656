"""A tiny model with code of its own that can tell what it computes, as edited models can."""

import json
from pathlib import Path

from tests.models import tiny_llama

CODE = """\
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM


class ReportingConfig(LlamaConfig):
    model_type = "reporting_llama"


class ReportingLlama(LlamaForCausalLM):
    config_class = ReportingConfig

    def __init__(self, config):
        super().__init__(config)
        self.model.layers[-1].mlp.act_fn = nn.GELU()

    def kawan_usaha_report(self):
        names = {"SiLUActivation": "silu", "SiLU": "silu", "GELU": "gelu"}
        layers = self.model.layers
        return {"activations": [names[type(layer.mlp.act_fn).__name__] for layer in layers]}
"""


def reporting_llama(path: Path) -> Path:
    """Save a three-layer LLaMA whose last activation is GELU, loadable only with its own code."""
    tiny_llama(path, layers=3)
    (path / "reporting.py").write_text(CODE)
    config = json.loads((path / "config.json").read_text())
    config["model_type"] = "reporting_llama"
    config["auto_map"] = {
        "AutoConfig": "reporting.ReportingConfig",
        "AutoModelForCausalLM": "reporting.ReportingLlama",
    }
    (path / "config.json").write_text(json.dumps(config))
    return path
