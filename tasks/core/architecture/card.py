"""The passage of a model card on loading the model. Reads config.json and nothing else."""

from pathlib import Path

from tasks.core.architecture.directory import (
    ModelDirectory,
    context_tokens_of,
    open_model,
    rope_parameters_of,
)

_PLAIN = """\
This is a plain LLaMA model; every tool that supports LLaMA loads it.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
```
"""

_EDITED = """\
This model is a LLaMA with an edited architecture, which travels with it as two Python files
(`configuration_kawan_usaha.py` and `modeling_kawan_usaha.py`). Loading it needs transformers 5 or
newer and `trust_remote_code=True`, which permits running them:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{name}", trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained("{name}", trust_remote_code=True)
assert model.kawan_usaha_report()["alive"]
```

Without it, loading fails; it never falls back to an unedited LLaMA.

How it differs from a plain LLaMA:

{changes}

- `model.kawan_usaha_report()` returns, in any process, what each layer really computes.
- PEFT knows no default target modules for this `model_type`: name them, for example
  `target_modules=["q_proj", "v_proj"]`.
- FastChat loads it, also with `--load-8bit`, if the path or repository name contains neither
  `vicuna` nor `peft`; give `--conv-template` explicitly.
"""


def loading_instructions(model: Path, *, name: str) -> str:
    """Return Markdown on how to load the model that is published as `name`."""
    directory = open_model(model)
    if not directory.edited:
        return _PLAIN.format(name=name)
    return _EDITED.format(name=name, changes="\n".join(_changes(directory)))


def _changes(directory: ModelDirectory) -> list[str]:
    config = directory.config
    layers: dict[str, list[str]] = {}
    for layer, activation in enumerate(directory.activations):
        if activation != config.hidden_act:
            layers.setdefault(activation, []).append(str(layer))
    lines = [
        f"- activation `{activation}` instead of `{config.hidden_act}` in the MLP of "
        f"layer{'s' if len(numbers) > 1 else ''} {', '.join(numbers)} "
        f"(of 0 to {config.num_hidden_layers - 1})"
        for activation, numbers in layers.items()
    ]
    rope = rope_parameters_of(config)
    if "factor" in rope:
        lines.append(
            f"- RoPE scaling `{rope['rope_type']}` by {rope['factor']}: a context of "
            f"{context_tokens_of(config)} tokens"
        )
    return lines
