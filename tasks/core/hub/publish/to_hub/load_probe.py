"""Load configuration, tokenizer and code of a model as from a Hub, without its weights.

Run as a script, `python load_probe.py REPO REVISION ANSWER`, in a process that has the files in a
cache of its own, no network and no token. Writes JSON about what it loaded to ANSWER. It imports
nothing from this project, which other users of the model do not have either.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.dynamic_module_utils import get_class_from_dynamic_module


def loaded(repo: str, revision: str) -> dict[str, Any]:
    """Return what the model at a revision is, built on the meta device."""
    where = {"revision": revision, "trust_remote_code": True}
    config = AutoConfig.from_pretrained(repo, **where)
    tokenizer = AutoTokenizer.from_pretrained(repo, **where)
    with torch.device("meta"):
        model = _class(repo, revision, config)(config)
    return {
        "model_type": config.model_type,
        "architecture": type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens": len(tokenizer),
    }


def _class(repo: str, revision: str, config: Any) -> Any:
    reference = getattr(config, "auto_map", {}).get("AutoModelForCausalLM")
    if reference is None:
        return AutoModelForCausalLM.from_config
    return get_class_from_dynamic_module(reference, repo, revision=revision)


if __name__ == "__main__":
    repo, revision, answer = sys.argv[1:]
    Path(answer).write_text(json.dumps(loaded(repo, revision)))
