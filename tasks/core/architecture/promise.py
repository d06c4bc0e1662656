"""What a model directory promises about its edit, and whether a loaded model keeps the promise.

For a process that serves: `model.kawan_usaha_report()` travels with the model and needs none of
this package, so a server asks its own model before it takes traffic and compares the answer with
`expected_report(directory)`, which is plain JSON and can be passed as a file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from torch import nn

from tasks.core.architecture.directory import open_model, rope_parameters_of
from tasks.core.errors import EditLost


def expected_report(model: Path) -> dict[str, JsonValue] | None:
    """Return the parts that kawan_usaha_report() must equal; None for a plain LLaMA.

    They are the function that each layer computes, the RoPE parameters, and `alive`: that the
    loaded modules really compute both. The same in every precision and on every device.
    """
    directory = open_model(model)
    if not directory.edited:
        return None
    return {
        "model_type": directory.config.model_type,
        "activations": list(directory.activations),
        "rope": rope_parameters_of(directory.config),
        "alive": True,
    }


def verify_loaded(loaded: nn.Module, model: Path) -> None:
    """Raise EditLost unless the loaded model shows the edit that its directory promises.

    A plain LLaMA promises nothing and passes.
    """
    expected = expected_report(model)
    if expected is None:
        return
    ask: Any = getattr(loaded, "kawan_usaha_report", None)
    if ask is None:
        raise EditLost(
            "The model was loaded with a class that ignores its edit.",
            where=model,
            expected="KawanUsahaForCausalLM",
            found=type(loaded).__name__,
            next_step="Load it with trust_remote_code=True.",
        )
    verify_report(ask(), expected)


def verify_report(report: Mapping[str, JsonValue], expected: Mapping[str, JsonValue]) -> None:
    """Raise EditLost unless the report has every expected part."""
    found = {name: report.get(name) for name in expected}
    if found != dict(expected):
        raise EditLost(
            "The loaded model does not compute what its edit says.",
            where=report.get("model_class"),
            expected=dict(expected),
            found=found,
            next_step="Do not serve it. See `kawan-usaha inspect MODEL`, then edit it again.",
        )
